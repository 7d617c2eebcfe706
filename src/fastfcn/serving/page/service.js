// Talking to the service this page came from.
import { Problem, offline } from "./words.js";

const KEY = "fastfcn-token";

export const keepToken = (token) => sessionStorage.setItem(KEY, token);

async function ask(path, options = {}) {
  const token = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    throw error.name === "AbortError" ? error : offline();
  }
  if (!answer.ok) throw await problemOf(answer);
  return answer;
}

async function problemOf(answer) {
  const held = await answer.json().catch(() => ({}));
  const wait = Number(answer.headers.get("Retry-After")) || 0;
  return new Problem(held.code ?? "internal", held.detail ?? `The answer has status ${answer.status}.`,
    held.hint, held.request_id, wait);
}

export const information = async () => (await ask("/info")).json();

export async function example(number) {
  return (await ask(`/examples/${number}.jpg`)).blob();
}

/** What the network says of an image (a Blob): size, classes, `labels` (one class index a pixel), times. */
export async function segment(image, signal) {
  const answer = await (await post(image, "runs", signal)).json();
  const labels = new Uint8Array(answer.width * answer.height);
  let at = 0;
  answer.runs.classes.forEach((index, run) => {
    labels.fill(index, at, at + answer.runs.lengths[run]);
    at += answer.runs.lengths[run];
  });
  return { ...answer, labels };
}

/** The answer as a file: "labels", or "overlay" at an opacity. */
export async function file(image, format, opacity = 0.5) {
  return (await post(image, `${format}&opacity=${opacity}`)).blob();
}

function post(image, format, signal) {
  return ask(`/predict?format=${format}`, {
    method: "POST", body: image, signal, headers: { "Content-Type": image.type || "application/octet-stream" },
  });
}
