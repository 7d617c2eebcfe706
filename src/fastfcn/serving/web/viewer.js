// The image with its classes on top: two canvases, a divider between them, and the class under the pointer.
import { swatch } from "./legend.js";

const get = (id) => document.getElementById(id);
const frame = get("frame"), tip = get("tip"), cross = get("cross");
const DIMMED = 50; // of 255: alpha of the other classes while one is highlighted

export class Viewer {
  /** `onPoint(entry, fromKeyboard)` is called with the class under the pointer or the cross, or null. */
  constructor(onPoint) {
    this.onPoint = onPoint;
    this.hidden = new Set();
    this.focus = null;
    this.result = null;
    this.position = [0.5, 0.5];
    frame.addEventListener("pointermove", (event) => this.followPointer(event));
    frame.addEventListener("pointerdown", (event) => this.followPointer(event));
    frame.addEventListener("pointerleave", () => this.leave());
    frame.addEventListener("keydown", (event) => this.moveCross(event));
    frame.addEventListener("blur", () => this.leave());
    get("cut").addEventListener("input", () => this.moveDivider());
  }

  /** Show an image without classes. */
  showImage(bitmap) {
    this.result = null;
    this.leave();
    for (const id of ["image", "classes"]) {
      get(id).width = bitmap.width;
      get(id).height = bitmap.height;
    }
    frame.style.setProperty("--ratio", bitmap.width / bitmap.height);
    frame.style.setProperty("--least", `${Math.min(4 * bitmap.width, 4000)}px`);
    get("image").getContext("2d").drawImage(bitmap, 0, 0);
  }

  /** Show the classes of a result on top. */
  showClasses(result) {
    this.result = result;
    this.classes = new Map(result.classes.map((entry) => [entry.index, entry]));
    this.hidden.clear();
    this.focus = null;
    this.paint();
  }

  /** Draw the classes with lighter boundaries; hidden ones are transparent. CSS sets the opacity of the whole canvas. */
  paint() {
    if (!this.result) return;
    const { width, height, labels } = this.result;
    const canvas = get("classes"), context = canvas.getContext("2d");
    canvas.width = width;
    canvas.height = height;
    const colors = new Uint32Array(256), lines = new Uint32Array(256);
    for (const { index, color: [red, green, blue] } of this.classes.values()) {
      const shown = this.focus === null ? !this.hidden.has(index) : this.focus === index;
      const alpha = shown ? 255 : this.focus !== null && !this.hidden.has(index) ? DIMMED : 0;
      const opaque = (values) => values.reduce((color, value, channel) => (color | value << 8 * channel) >>> 0, alpha << 24 >>> 0);
      colors[index] = opaque([red, green, blue]);
      lines[index] = opaque([red, green, blue].map((value) => Math.round(value + 0.5 * (255 - value))));
    }
    const image = context.createImageData(width, height), pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < labels.length; i++) {
      const index = labels[i];
      const edge = i + width < labels.length && labels[i + width] !== index
        || (i + 1) % width !== 0 && labels[i + 1] !== index;
      pixels[i] = edge ? lines[index] : colors[index];
    }
    context.putImageData(image, 0, 0);
  }

  /** Highlight a class by dimming the others; null for none. */
  highlight(index) {
    if (index === this.focus) return;
    this.focus = index;
    this.paint();
  }

  /** "over": classes on top of the image; "side": image to the left and classes to the right of a movable divider. */
  setView(kind) {
    const side = kind === "side";
    frame.classList.toggle("side", side);
    for (const part of [get("cut"), get("cut-line"), ...frame.querySelectorAll(".corner")]) part.hidden = !side;
    this.moveDivider();
  }

  moveDivider() {
    frame.style.setProperty("--cut", `${get("cut").value / 10}%`);
  }

  setOpacity(percent) {
    frame.style.setProperty("--opacity", percent / 100);
  }

  followPointer(event) {
    const box = get("image").getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
    cross.hidden = true;
    if (x < 0 || x >= 1 || y < 0 || y >= 1) this.leave();
    else this.showTip(x, y, false);
  }

  moveCross(event) {
    const step = event.shiftKey ? 0.1 : 0.02;
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if ((!dx && !dy) || event.target !== frame) return; // the slider inside handles its own keys
    event.preventDefault();
    this.position = [this.position[0] + dx * step, this.position[1] + dy * step].map((value) => Math.min(0.999, Math.max(0, value)));
    cross.hidden = false;
    cross.style.left = `${100 * this.position[0]}%`;
    cross.style.top = `${100 * this.position[1]}%`;
    this.showTip(...this.position, true);
  }

  showTip(x, y, fromKeyboard) {
    if (!this.result) return;
    const { width, height, labels } = this.result;
    const entry = this.classes.get(labels[Math.floor(y * height) * width + Math.floor(x * width)]);
    tip.replaceChildren(swatch(entry.color), entry.name);
    tip.hidden = false;
    tip.style.left = `${100 * x}%`;
    tip.style.top = `${100 * y}%`;
    tip.classList.toggle("flip", x > 0.7);
    tip.classList.toggle("below", y < 0.15);
    this.onPoint(entry, fromKeyboard);
  }

  leave() {
    tip.hidden = cross.hidden = true;
    this.onPoint(null, false);
  }

  /** The overlay as a PNG at the size of the image. */
  async overlay(opacity) {
    const { width, height } = get("image");
    const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d");
    context.drawImage(get("image"), 0, 0);
    context.globalAlpha = opacity;
    context.drawImage(get("classes"), 0, 0);
    return canvas.convertToBlob({ type: "image/png" });
  }
}
