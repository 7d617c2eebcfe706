// The picture with its classes laid over: two canvases, a cut between them, and what lies under the pointer.
import { swatch } from "./legend.js";

const get = (id) => document.getElementById(id);
const frame = get("frame"), tip = get("tip"), cross = get("cross");
const FAINT = 50; // of 255: classes beside the one that is pointed out

export class Stage {
  /** `pointed(index, said)` is told the class under the pointer or the cross (`said`: from the keyboard), or null. */
  constructor(pointed) {
    this.pointed = pointed;
    this.hidden = new Set();
    this.focus = null;
    this.answer = null;
    this.at = [0.5, 0.5];
    frame.addEventListener("pointermove", (event) => this.follow(event));
    frame.addEventListener("pointerdown", (event) => this.follow(event));
    frame.addEventListener("pointerleave", () => this.leave());
    frame.addEventListener("keydown", (event) => this.walk(event));
    frame.addEventListener("blur", () => this.leave());
    get("cut").addEventListener("input", () => this.cut());
  }

  /** Show a picture without classes; its size is the stage's. */
  showImage(bitmap) {
    this.answer = null;
    this.leave();
    for (const id of ["image", "classes"]) {
      get(id).width = bitmap.width;
      get(id).height = bitmap.height;
    }
    frame.style.setProperty("--ratio", bitmap.width / bitmap.height);
    frame.style.setProperty("--least", `${Math.min(4 * bitmap.width, 4000)}px`);
    get("image").getContext("2d").drawImage(bitmap, 0, 0);
  }

  /** Lay what the network said over it. */
  showClasses(answer) {
    this.answer = answer;
    this.names = new Map(answer.classes.map((each) => [each.index, each]));
    this.hidden.clear();
    this.focus = null;
    this.paint();
  }

  /** Colour the classes, with lighter lines between: opaque, as CSS gives the whole its opacity; hidden ones not at all. */
  paint() {
    if (!this.answer) return;
    const { width, height, labels } = this.answer;
    const canvas = get("classes"), pen = canvas.getContext("2d");
    canvas.width = width;
    canvas.height = height;
    const colors = new Uint32Array(256), lines = new Uint32Array(256);
    for (const { index, color: [red, green, blue] } of this.names.values()) {
      const shown = this.focus === null ? !this.hidden.has(index) : this.focus === index;
      const alpha = shown ? 255 : this.focus !== null && !this.hidden.has(index) ? FAINT : 0;
      const opaque = (values) => values.reduce((whole, value, at) => (whole | value << 8 * at) >>> 0, alpha << 24 >>> 0);
      colors[index] = opaque([red, green, blue]);
      lines[index] = opaque([red, green, blue].map((value) => Math.round(value + 0.5 * (255 - value))));
    }
    const picture = pen.createImageData(width, height), pixels = new Uint32Array(picture.data.buffer);
    for (let at = 0; at < labels.length; at++) {
      const index = labels[at];
      const edge = at + width < labels.length && labels[at + width] !== index
        || (at + 1) % width !== 0 && labels[at + 1] !== index;
      pixels[at] = edge ? lines[index] : colors[index];
    }
    pen.putImageData(picture, 0, 0);
  }

  pointOut(index) {
    if (index === this.focus) return;
    this.focus = index;
    this.paint();
  }

  /** "over" or "side": one above the other, or the picture left and the classes right of a line that moves. */
  view(kind) {
    const side = kind === "side";
    frame.classList.toggle("side", side);
    for (const each of [get("cut"), get("cut-line"), ...frame.querySelectorAll(".corner")]) each.hidden = !side;
    this.cut();
  }

  cut() {
    frame.style.setProperty("--cut", `${get("cut").value / 10}%`);
  }

  opacity(percent) {
    frame.style.setProperty("--opacity", percent / 100);
  }

  follow(event) {
    const box = get("image").getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
    cross.hidden = true;
    if (x < 0 || x >= 1 || y < 0 || y >= 1) this.leave();
    else this.tell(x, y, false);
  }

  walk(event) {
    const step = event.shiftKey ? 0.1 : 0.02;
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if ((!dx && !dy) || event.target !== frame) return; // the slider within has its own
    event.preventDefault();
    this.at = [this.at[0] + dx * step, this.at[1] + dy * step].map((each) => Math.min(0.999, Math.max(0, each)));
    cross.hidden = false;
    cross.style.left = `${100 * this.at[0]}%`;
    cross.style.top = `${100 * this.at[1]}%`;
    this.tell(...this.at, true);
  }

  tell(x, y, said) {
    if (!this.answer) return;
    const { width, height, labels } = this.answer;
    const entry = this.names.get(labels[Math.floor(y * height) * width + Math.floor(x * width)]);
    tip.replaceChildren(swatch(entry.color), entry.name);
    tip.hidden = false;
    tip.style.left = `${100 * x}%`;
    tip.style.top = `${100 * y}%`;
    tip.classList.toggle("flip", x > 0.7);
    tip.classList.toggle("below", y < 0.15);
    this.pointed(entry, said);
  }

  leave() {
    tip.hidden = cross.hidden = true;
    this.pointed(null, false);
  }

  /** What is shown, as a PNG of the picture's own size. */
  async drawn(opacity) {
    const { width, height } = get("image");
    const canvas = new OffscreenCanvas(width, height), pen = canvas.getContext("2d");
    pen.drawImage(get("image"), 0, 0);
    pen.globalAlpha = opacity;
    pen.drawImage(get("classes"), 0, 0);
    return canvas.convertToBlob({ type: "image/png" });
  }
}
