// Requests to the service that served this page.
import { Problem, offline } from "./text.js";

const STORAGE_KEY = "fastfcn-token";

export const keepToken = (token) => sessionStorage.setItem(STORAGE_KEY, token);

async function request(path, options = {}) {
  const token = sessionStorage.getItem(STORAGE_KEY);
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    throw error.name === "AbortError" ? error : offline();
  }
  if (!response.ok) throw await problemFrom(response);
  return response;
}

async function problemFrom(response) {
  const body = await response.json().catch(() => ({}));
  const wait = Number(response.headers.get("Retry-After")) || 0;
  return new Problem(body.code ?? "internal", body.detail ?? `The service responded with status ${response.status}.`,
    body.hint, body.request_id, wait);
}

export const information = async () => (await request("/info")).json();

export async function example(number) {
  return (await request(`/examples/${number}.jpg`)).blob();
}

/** Segment an image (a Blob): its size, classes, `labels` (one class index per pixel) and timings. */
export async function segment(image, signal) {
  const result = await (await post(image, "runs", signal)).json();
  const labels = new Uint8Array(result.width * result.height);
  let position = 0;
  result.runs.classes.forEach((index, run) => {
    labels.fill(index, position, position + result.runs.lengths[run]);
    position += result.runs.lengths[run];
  });
  return { ...result, labels };
}

/** The result as a file: "labels", or "overlay" with an opacity. */
export async function file(image, format, opacity = 0.5) {
  return (await post(image, `${format}&opacity=${opacity}`)).blob();
}

function post(image, format, signal) {
  return request(`/predict?format=${format}`, {
    method: "POST", body: image, signal, headers: { "Content-Type": image.type || "application/octet-stream" },
  });
}
