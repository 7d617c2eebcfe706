// The page: from a picture to what is in it, and what to say when that fails.
import { photograph } from "./camera.js";
import { mark, pointOut, showFound, showKnown } from "./legend.js";
import { prepare, save } from "./picture.js";
import * as service from "./service.js";
import { Stage } from "./stage.js";
import { Problem, mebibytes, seconds } from "./words.js";

const get = (id) => document.getElementById(id);
const TRIES = 5; // of a busy service
const AGAIN = ["busy", "late", "slow", "offline", "internal", "page"]; // problems that another try may solve
const EXAMPLES = ["One", "Two", "Three", "Four"];
let info = null, last = null, running = null;

const stage = new Stage((entry, said) => {
  pointOut(entry?.index ?? null);
  if (said && entry) tell(entry.name);
});

const tell = (text) => { get("status").textContent = text; };

function show(part) {
  for (const id of ["start", "result", "problem"]) get(id).hidden = id !== part;
  document.body.dataset.part = part;
  if (part === "start" && info) showKnown(info.classes);
}

async function begin() {
  show("start");
  try {
    info = await service.information();
  } catch (error) {
    return complain(error, begin);
  }
  const longest = suggested();
  get("model").textContent = info.model.name;
  get("model").title = info.model.summary ?? "";
  get("full-text").textContent = `Send it in full size, not shrunk to ${longest} pixels`;
  get("limits").textContent = `${info.limits.formats}, up to ${mebibytes(info.limits.bytes)} and ` +
    `${+(info.limits.pixels / 1e6).toFixed(1)} million pixels`;
  get("file").accept = [...info.limits.media_types, ".tif", ".tiff"].join(",");
  showExamples();
  show("start");
}

/** Pixels of the longer side that the network is at ease with: no less than 1024, no more than the limit allows. */
function suggested() {
  const trained = Math.max(1024, ...(info.model.crop ?? []));
  return Math.min(trained, Math.floor(Math.sqrt(info.limits.pixels)));
}

function showExamples() {
  get("examples").replaceChildren(...EXAMPLES.map((word, index) => {
    const button = document.createElement("button"), picture = document.createElement("img");
    picture.src = `/examples/${index + 1}.jpg`;
    picture.alt = "";
    button.type = "button";
    button.setAttribute("aria-label", `Example ${word.toLowerCase()}: a drawn street`);
    button.append(picture);
    button.addEventListener("click", () => attempt(async () => {
      take(new File([await service.example(index + 1)], `street-${index + 1}.jpg`, { type: "image/jpeg" }));
    }));
    return button;
  }));
}

/** Carry out `work`; whatever goes wrong is said. */
async function attempt(work, again = null) {
  try {
    await work();
  } catch (error) {
    if (error.name !== "AbortError") complain(error, again);
  }
}

const take = (file) => attempt(() => process(file), () => take(file));

async function process(file) {
  if (!info) return begin();
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const longest = get("full").checked ? Infinity : suggested();
  const picture = await prepare(file, longest, info.limits);
  if (signal.aborted) return;
  const started = performance.now();
  if (picture.bitmap) {
    stage.showImage(picture.bitmap);
    show("result");
    working(true);
  }
  try {
    const answer = await patiently(picture.sent, signal);
    const took = performance.now() - started;
    if (!picture.bitmap) stage.showImage(await createImageBitmap(await service.file(picture.sent, "overlay", 0)));
    last = picture;
    finished(answer, picture, took);
  } finally {
    if (running?.signal === signal) working(false);
  }
}

/** Ask, and ask again where the service is busy, as long as it says. */
async function patiently(image, signal) {
  for (let tries = 1; ; tries++) {
    try {
      return await service.segment(image, signal);
    } catch (error) {
      if (error.code !== "busy" || tries === TRIES) throw error;
      await pause(error.wait || 2, signal);
    }
  }
}

async function pause(wait, signal) {
  for (let left = wait; left > 0; left--) {
    get("work-text").textContent = `Busy. Trying again in ${left} s`;
    await new Promise((resolve) => setTimeout(resolve, 1000));
    signal.throwIfAborted();
  }
  get("work-text").textContent = "Trying again";
}

function working(on) {
  get("work").hidden = !on;
  get("work-text").textContent = "Looking at it";
  get("result").classList.toggle("busy", on);
  get("tools").inert = on;
  if (on) {
    get("legend").replaceChildren();
    get("legend-title").textContent = "Classes";
    get("legend-tools").hidden = get("sum").hidden = true;
    get("facts").textContent = "";
    tell("The picture is on its way.");
  }
}

function finished(answer, picture, took) {
  stage.showClasses(answer);
  showFound(answer.classes, stage.hidden, () => stage.paint(), (index) => stage.pointOut(index));
  const { infer, wait, decode } = answer.milliseconds;
  const from = picture.from ? `, shrunk from ${picture.from.join(" × ")}` : "";
  get("facts").textContent = `${answer.width} × ${answer.height} pixels${from}. ${seconds(took)} in all: network ` +
    `${seconds(infer)}, waiting ${seconds(wait)}, reading ${seconds(decode)}.`;
  show("result");
  const [first] = answer.classes;
  tell(`Done in ${seconds(took)}. ${answer.classes.length} classes; the largest is ${first.name}.`);
}

function complain(error, again) {
  const problem = error instanceof Problem ? error : new Problem("page", String(error.message ?? error));
  get("problem-title").textContent = problem.title;
  get("problem-text").textContent = problem.detail;
  get("problem-hint").textContent = problem.hint ?? "";
  get("problem-id").textContent = problem.id ? `Request ${problem.id}` : "";
  get("token-form").hidden = problem.code !== "unauthorized";
  get("retry").hidden = !again || !AGAIN.includes(problem.code);
  get("dismiss").hidden = !info;
  get("retry").onclick = again;
  show("problem");
  if (info) showKnown(info.classes);
  const next = problem.code === "unauthorized" ? get("token") : get("dismiss").hidden ? get("retry") : get("dismiss");
  next.focus();
}

const stem = () => (last.name || "picture").replace(/\.[^.]*$/, "");

function listen() {
  get("choose").onclick = () => get("file").click();
  get("photo").onclick = () => attempt(() => photograph(take));
  for (const id of ["again", "dismiss"]) get(id).onclick = () => { running?.abort(); show("start"); get("choose").focus(); };
  get("cancel").onclick = () => { running?.abort(); show("start"); };
  for (const id of ["file", "capture"]) {
    get(id).addEventListener("change", () => {
      if (get(id).files[0]) take(get(id).files[0]);
      get(id).value = "";
    });
  }
  for (const each of document.getElementsByName("view")) each.onchange = () => stage.view(each.value);
  get("opacity").oninput = () => {
    get("opacity-text").textContent = `${get("opacity").value} %`;
    stage.opacity(get("opacity").value);
  };
  get("save-labels").onclick = () => attempt(async () =>
    save(await service.file(last.sent, "labels"), `${stem()}-labels.png`));
  get("save-overlay").onclick = () => attempt(async () =>
    save(await stage.drawn(get("opacity").value / 100), `${stem()}-overlay.png`));
  const hide = (all) => {
    stage.hidden.clear();
    if (all) for (const each of stage.answer.classes) stage.hidden.add(each.index);
    mark(stage.hidden);
    stage.paint();
  };
  get("all").onclick = () => hide(false);
  get("none").onclick = () => hide(true);
  get("token-form").onsubmit = (event) => {
    event.preventDefault();
    service.keepToken(get("token").value);
    begin();
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
    if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => { if (event.clipboardData.files[0]) take(event.clipboardData.files[0]); });
}

listen();
stage.opacity(get("opacity").value);
begin();
