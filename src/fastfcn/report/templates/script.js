"use strict";
// Sort a table by clicking a column title; empty cells stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  table.tHead.addEventListener("click", (event) => {
    const title = event.target.closest("th");
    if (!title || !event.target.closest("button")) return;
    const column = title.cellIndex;
    const descending = column ? title.ariaSort !== "descending" : title.ariaSort === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    title.ariaSort = descending ? "descending" : "ascending";
    const key = (row) => row.cells[column].dataset.v;
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = column ? x - y : x.localeCompare(y);
      return descending ? -order : order;
    });
    table.tBodies[0].append(...rows);
  });
}
// Enlarge an image by clicking it.
const dialog = document.querySelector("dialog");
for (const image of document.querySelectorAll(".views img")) {
  image.addEventListener("click", () => {
    const caption = document.createElement("p");
    caption.textContent = image.alt;
    dialog.replaceChildren(image.cloneNode(), caption);
    dialog.showModal();
  });
}
dialog.addEventListener("click", () => dialog.close());
// Read out the cell of a large confusion matrix under the pointer.
for (const matrix of document.querySelectorAll(".large-matrix")) {
  const { names, rows } = JSON.parse(matrix.querySelector("script").textContent);
  const image = matrix.querySelector("img");
  const readout = matrix.querySelector(".readout");
  const labels = (list) => [...matrix.querySelectorAll(`.${list} li`)];
  const [trueLabels, predictedLabels] = [labels("rows"), labels("columns")];
  const read = (event) => {
    const box = image.getBoundingClientRect();
    const cell = (offset, length) => Math.min(names.length - 1, Math.max(0, Math.floor((offset / length) * names.length)));
    const predicted = cell(event.clientX - box.left, box.width);
    const truth = cell(event.clientY - box.top, box.height);
    const share = rows[truth][predicted] ?? 0;
    const bold = (text) => Object.assign(document.createElement("b"), { textContent: text });
    readout.replaceChildren(bold(names[truth]), " predicted as ", bold(names[predicted]), `: ${share} % of its pixels`);
    trueLabels.forEach((label, index) => label.classList.toggle("on", index === truth));
    predictedLabels.forEach((label, index) => label.classList.toggle("on", index === predicted));
  };
  for (const event of ["pointermove", "pointerdown"]) image.addEventListener(event, read);
}
