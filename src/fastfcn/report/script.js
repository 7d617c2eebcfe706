"use strict";
// Tables sort by a click on a title; empty cells stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  table.tHead.addEventListener("click", (event) => {
    const head = event.target.closest("th");
    if (!head || !event.target.closest("button")) return;
    const column = head.cellIndex;
    const down = column ? head.ariaSort !== "descending" : head.ariaSort === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.ariaSort = down ? "descending" : "ascending";
    const key = (row) => row.cells[column].dataset.v;
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = column ? x - y : x.localeCompare(y);
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows);
  });
}
// Pictures open large.
const dialog = document.querySelector("dialog");
for (const image of document.querySelectorAll(".views img")) {
  image.addEventListener("click", () => {
    const large = image.cloneNode();
    const words = document.createElement("p");
    words.textContent = image.alt;
    dialog.replaceChildren(large, words);
    dialog.showModal();
  });
}
dialog.addEventListener("click", () => dialog.close());
// A matrix of many classes is read out where one points.
for (const place of document.querySelectorAll(".bigmatrix")) {
  const { names, rows } = JSON.parse(place.querySelector("script").textContent);
  const image = place.querySelector("img");
  const line = place.querySelector(".readout");
  image.addEventListener("pointermove", (event) => {
    const box = image.getBoundingClientRect();
    const cell = (offset, length) => Math.min(names.length - 1, Math.max(0, Math.floor((offset / length) * names.length)));
    const [predicted, truth] = [cell(event.clientX - box.left, box.width), cell(event.clientY - box.top, box.height)];
    const share = rows[truth][predicted] ?? 0;
    const bold = (text) => Object.assign(document.createElement("b"), { textContent: text });
    line.replaceChildren(bold(names[truth]), " is called ", bold(names[predicted]), ` in ${share} % of its pixels.`);
  });
}
