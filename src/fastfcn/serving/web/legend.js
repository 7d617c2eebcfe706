// The legend: color, name and share of each class; hides, shows and highlights classes.
import { percent, percentages } from "./text.js";

const list = document.getElementById("legend");
const css = (color) => `rgb(${color.join(" ")})`;

/** Without an image: all classes of the model. */
export function showAllClasses(classes) {
  document.getElementById("legend-title").textContent = `${classes.length} classes`;
  document.getElementById("legend-tools").hidden = document.getElementById("sum").hidden = true;
  list.classList.add("known");
  list.replaceChildren(...classes.map((entry) => {
    const item = document.createElement("li");
    item.append(swatch(entry.color), text("name", entry.name));
    return item;
  }));
}

/** With a result: the classes in the image with their shares. Clicking a class updates the set `hidden` and calls
 *  `onChange()`; `onPoint(index)` is called with the class under the pointer, or null. */
export function showResult(classes, hidden, onChange, onPoint) {
  document.getElementById("legend-title").textContent =
    classes.length === 1 ? "1 class" : `${classes.length} classes`;
  document.getElementById("legend-tools").hidden = document.getElementById("sum").hidden = false;
  list.classList.remove("known");
  const shares = percentages(classes.map((entry) => entry.pixels));
  document.getElementById("sum-text").textContent = percent(shares.reduce((sum, share) => sum + share, 0));
  list.replaceChildren(...classes.map((entry, row) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    const share = text("share", percent(shares[row]));
    const bar = text("share-bar", "");
    button.type = "button";
    button.dataset.index = entry.index;
    button.setAttribute("aria-label", `${entry.name}, ${percent(shares[row])}`);
    bar.style.setProperty("--share", `${shares[row]}%`);
    bar.style.setProperty("--color", css(entry.color));
    button.append(swatch(entry.color), text("name", entry.name), share, bar);
    button.addEventListener("click", () => {
      hidden.has(entry.index) ? hidden.delete(entry.index) : hidden.add(entry.index);
      updateHidden(hidden);
      onChange();
    });
    for (const kind of ["pointerenter", "focus"]) button.addEventListener(kind, () => onPoint(entry.index));
    for (const kind of ["pointerleave", "blur"]) button.addEventListener(kind, () => onPoint(null));
    item.append(button);
    return item;
  }));
  updateHidden(hidden);
}

/** Mark the classes that are hidden. */
export function updateHidden(hidden) {
  for (const button of list.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(!hidden.has(Number(button.dataset.index))));
  }
}

/** Highlight the row of a class; null for none. */
export function highlight(index) {
  for (const button of list.querySelectorAll("button")) {
    button.classList.toggle("here", Number(button.dataset.index) === index);
  }
}

export function swatch(color) {
  const box = text("swatch", "");
  box.style.setProperty("--color", css(color));
  return box;
}

function text(kind, content) {
  const span = document.createElement("span");
  span.className = kind;
  span.textContent = content;
  return span;
}
