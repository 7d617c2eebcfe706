// Error titles and number formats.

const TITLES = {
  "busy": "The service is busy",
  "late": "The request timed out",
  "slow": "The upload took too long",
  "too-many-bytes": "The file is too large",
  "too-many-pixels": "The image is too large",
  "too-many-images": "Too many images",
  "too-detailed": "The result is too large",
  "out-of-memory": "The image is too large",
  "unknown-format": "Unsupported file type",
  "wrong-content-type": "Unsupported file type",
  "broken-image": "The image is damaged",
  "no-image": "No image received",
  "unauthorized": "A token is required",
  "foreign-origin": "This origin is not allowed",
  "offline": "The service does not respond",
  "camera": "The camera is not available",
  "internal": "Internal server error",
};

/** An error to show: `code` (as in the service's problems), `detail`, `hint`, the request's `id`, and seconds to `wait`. */
export class Problem extends Error {
  constructor(code, detail, hint = "", id = "", wait = 0) {
    super(detail);
    Object.assign(this, { code, detail, hint, id, wait });
  }
  get title() { return TITLES[this.code] ?? "Something went wrong"; }
}

export const offline = () => new Problem("offline", "No response from the service.",
  "It may have been stopped, or the network is down. Try again in a moment.");

/** Counts as percentages with one decimal that add up to exactly 100.0 (largest remainder method). */
export function percentages(counts) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const exact = counts.map((count) => 1000 * count / total);
  const tenths = exact.map(Math.floor);
  const missing = 1000 - tenths.reduce((sum, value) => sum + value, 0);
  const order = exact.map((value, index) => [value - tenths[index], index]).sort((a, b) => b[0] - a[0]);
  for (const [, index] of order.slice(0, missing)) tenths[index] += 1;
  return tenths.map((value) => value / 10);
}

export const percent = (value) => `${value.toFixed(1)} %`;
export const mebibytes = (bytes) => `${+(bytes / 2 ** 20).toPrecision(3)} MiB`;
export const seconds = (ms) => ms < 995 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
