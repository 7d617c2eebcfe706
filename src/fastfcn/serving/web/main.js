// The page: choose an image, segment it, show the result or the error.
import * as api from "./api.js";
import { takePhoto } from "./camera.js";
import { download, prepare } from "./image.js";
import { highlight, showAllClasses, showResult, updateHidden } from "./legend.js";
import { Problem, mebibytes, seconds } from "./text.js";
import { Viewer } from "./viewer.js";

const get = (id) => document.getElementById(id);
const TRIES = 5; // while the service is busy
const RETRYABLE = ["busy", "late", "slow", "offline", "internal", "page"]; // problem codes
const EXAMPLES = ["One", "Two", "Three", "Four"];
let info = null, current = null, running = null; // GET /info, the image shown, AbortController of the request

const viewer = new Viewer((entry, fromKeyboard) => {
  highlight(entry?.index ?? null);
  if (fromKeyboard && entry) announce(entry.name);
});

const announce = (text) => { get("status").textContent = text; };

function show(part) {
  for (const id of ["start", "result", "problem"]) get(id).hidden = id !== part;
  document.body.dataset.part = part;
  if (part === "start" && info) showAllClasses(info.classes);
}

async function start() {
  show("start");
  try {
    info = await api.information();
  } catch (error) {
    return showProblem(error, start);
  }
  const longest = suggestedSize();
  get("model").textContent = info.model.name;
  get("model").title = info.model.summary ?? "";
  get("full-text").textContent = `Send at full size, not reduced to ${longest} pixels`;
  get("limits").textContent = `${info.limits.formats}, up to ${mebibytes(info.limits.bytes)} and ` +
    `${+(info.limits.pixels / 1e6).toFixed(1)} million pixels`;
  get("file").accept = [...info.limits.media_types, ".tif", ".tiff"].join(",");
  showExamples();
  show("start");
}

/** Longer side in pixels to which images are reduced: about the training size, at least 1024, within the limit. */
function suggestedSize() {
  const trained = Math.max(1024, ...(info.model.crop ?? []));
  return Math.min(trained, Math.floor(Math.sqrt(info.limits.pixels)));
}

function showExamples() {
  get("example-box").hidden = !info.examples; // the model does not know streets
  get("examples").replaceChildren(...EXAMPLES.slice(0, info.examples).map((number, index) => {
    const button = document.createElement("button"), image = document.createElement("img");
    image.src = `/examples/${index + 1}.jpg`;
    image.alt = "";
    button.type = "button";
    button.setAttribute("aria-label", `Example ${number.toLowerCase()}: a synthetic street scene`);
    button.append(image);
    button.addEventListener("click", () => attempt(async () => {
      open(new File([await api.example(index + 1)], `street-${index + 1}.jpg`, { type: "image/jpeg" }));
    }));
    return button;
  }));
}

/** Run `work` and show its errors; `retry` runs it again. */
async function attempt(work, retry = null) {
  try {
    await work();
  } catch (error) {
    if (error.name !== "AbortError") showProblem(error, retry);
  }
}

const open = (file) => attempt(() => process(file), () => open(file));

async function process(file) {
  if (!info) return start();
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const longest = get("full").checked ? Infinity : suggestedSize();
  const image = await prepare(file, longest, info.limits);
  if (signal.aborted) return;
  const started = performance.now();
  if (image.bitmap) {
    viewer.showImage(image.bitmap);
    show("result");
    setBusy(true);
  }
  try {
    const result = await segment(image.upload, signal);
    const elapsed = performance.now() - started;
    if (!image.bitmap) viewer.showImage(await createImageBitmap(await api.file(image.upload, "overlay", 0)));
    current = image;
    showFinished(result, image, elapsed);
  } finally {
    if (running?.signal === signal) setBusy(false);
  }
}

/** Segment an image, retrying after the announced time while the service is busy. */
async function segment(image, signal) {
  for (let tries = 1; ; tries++) {
    try {
      return await api.segment(image, signal);
    } catch (error) {
      if (error.code !== "busy" || tries === TRIES) throw error;
      await pause(error.wait || 2, signal);
    }
  }
}

async function pause(wait, signal) {
  for (let left = wait; left > 0; left--) {
    get("work-text").textContent = `Busy. Retrying in ${left} s`;
    await new Promise((resolve) => setTimeout(resolve, 1000));
    signal.throwIfAborted();
  }
  get("work-text").textContent = "Retrying";
}

function setBusy(busy) {
  get("work").hidden = !busy;
  get("work-text").textContent = "Segmenting";
  get("result").classList.toggle("busy", busy);
  get("tools").inert = busy;
  if (busy) {
    get("legend").replaceChildren();
    get("legend-title").textContent = "Classes";
    get("legend-tools").hidden = get("sum").hidden = true;
    get("facts").textContent = "";
    announce("Segmenting the image.");
  }
}

function showFinished(result, image, elapsed) {
  viewer.showClasses(result);
  showResult(result.classes, viewer.hidden, () => viewer.paint(), (index) => viewer.highlight(index));
  const { infer, wait, decode } = result.milliseconds;
  const reduced = image.originalSize ? `, reduced from ${image.originalSize.join(" × ")}` : "";
  get("facts").textContent = `${result.width} × ${result.height} pixels${reduced}. ${seconds(elapsed)} in total: network ` +
    `${seconds(infer)}, queue ${seconds(wait)}, decoding ${seconds(decode)}.`;
  show("result");
  const [first] = result.classes;
  announce(`Done in ${seconds(elapsed)}. ${result.classes.length} classes; the largest is ${first.name}.`);
}

function showProblem(error, retry) {
  const problem = error instanceof Problem ? error : new Problem("page", String(error.message ?? error));
  get("problem-title").textContent = problem.title;
  get("problem-text").textContent = problem.detail;
  get("problem-hint").textContent = problem.hint ?? "";
  get("problem-id").textContent = problem.id ? `Request ${problem.id}` : "";
  get("token-form").hidden = problem.code !== "unauthorized";
  get("retry").hidden = !retry || !RETRYABLE.includes(problem.code);
  get("dismiss").hidden = !info;
  get("retry").onclick = retry;
  show("problem");
  if (info) showAllClasses(info.classes);
  const next = problem.code === "unauthorized" ? get("token") : get("dismiss").hidden ? get("retry") : get("dismiss");
  next.focus();
}

const stem = () => (current.name || "image").replace(/\.[^.]*$/, "");

function listen() {
  get("choose").onclick = () => get("file").click();
  get("photo").onclick = () => attempt(() => takePhoto(open));
  for (const id of ["again", "dismiss"]) get(id).onclick = () => { running?.abort(); show("start"); get("choose").focus(); };
  get("cancel").onclick = () => { running?.abort(); show("start"); };
  for (const id of ["file", "capture"]) {
    get(id).addEventListener("change", () => {
      if (get(id).files[0]) open(get(id).files[0]);
      get(id).value = "";
    });
  }
  for (const input of document.getElementsByName("view")) input.onchange = () => viewer.setView(input.value);
  get("opacity").oninput = () => {
    get("opacity-text").textContent = `${get("opacity").value} %`;
    viewer.setOpacity(get("opacity").value);
  };
  get("save-labels").onclick = () => attempt(async () =>
    download(await api.file(current.upload, "labels"), `${stem()}-labels.png`));
  get("save-overlay").onclick = () => attempt(async () =>
    download(await viewer.overlay(get("opacity").value / 100), `${stem()}-overlay.png`));
  const hide = (all) => {
    viewer.hidden.clear();
    if (all) for (const entry of viewer.result.classes) viewer.hidden.add(entry.index);
    updateHidden(viewer.hidden);
    viewer.paint();
  };
  get("all").onclick = () => hide(false);
  get("none").onclick = () => hide(true);
  get("token-form").onsubmit = (event) => {
    event.preventDefault();
    api.keepToken(get("token").value);
    start();
  };
  listenToDrops();
}

function listenToDrops() {
  const has = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => { if (has(event)) { event.preventDefault(); get("drop").hidden = false; } });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) get("drop").hidden = true; });
  addEventListener("drop", (event) => {
    get("drop").hidden = true;
    if (!has(event)) return;
    event.preventDefault();
    if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => { if (event.clipboardData.files[0]) open(event.clipboardData.files[0]); });
}

listen();
viewer.setOpacity(get("opacity").value);
start();
