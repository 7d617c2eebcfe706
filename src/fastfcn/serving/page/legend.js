// The list of classes: colour, name, share; hides, shows and points out.
import { percent, percentages } from "./words.js";

const list = document.getElementById("legend");
const css = (color) => `rgb(${color.join(" ")})`;

/** Before a picture: what the network knows. */
export function showKnown(classes) {
  document.getElementById("legend-title").textContent = `It knows ${classes.length} classes`;
  document.getElementById("legend-tools").hidden = document.getElementById("sum").hidden = true;
  list.classList.add("known");
  list.replaceChildren(...classes.map((each) => {
    const item = document.createElement("li");
    item.append(swatch(each.color), text("name", each.name));
    return item;
  }));
}

/** After: classes of the picture with shares. `changed(hidden)` is told the hidden ones, `pointed(index)` the one that
 *  is pointed at, or null. */
export function showFound(classes, hidden, changed, pointed) {
  document.getElementById("legend-title").textContent =
    classes.length === 1 ? "1 class" : `${classes.length} classes`;
  document.getElementById("legend-tools").hidden = document.getElementById("sum").hidden = false;
  list.classList.remove("known");
  const shares = percentages(classes.map((each) => each.pixels));
  document.getElementById("sum-text").textContent = percent(shares.reduce((sum, each) => sum + each, 0));
  list.replaceChildren(...classes.map((each, row) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    const share = text("share", percent(shares[row]));
    const bar = text("share-bar", "");
    button.type = "button";
    button.dataset.index = each.index;
    button.setAttribute("aria-label", `${each.name}, ${percent(shares[row])}`);
    bar.style.setProperty("--share", `${shares[row]}%`);
    bar.style.setProperty("--color", css(each.color));
    button.append(swatch(each.color), text("name", each.name), share, bar);
    button.addEventListener("click", () => {
      hidden.has(each.index) ? hidden.delete(each.index) : hidden.add(each.index);
      mark(hidden);
      changed();
    });
    for (const kind of ["pointerenter", "focus"]) button.addEventListener(kind, () => pointed(each.index));
    for (const kind of ["pointerleave", "blur"]) button.addEventListener(kind, () => pointed(null));
    item.append(button);
    return item;
  }));
  mark(hidden);
}

/** Show which classes are hidden. */
export function mark(hidden) {
  for (const button of list.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(!hidden.has(Number(button.dataset.index))));
  }
}

/** Point out the row of the class under the pointer; null for none. */
export function pointOut(index) {
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
