// Words and numbers for people.

const TITLES = {
  "busy": "Too busy just now",
  "late": "It took too long",
  "slow": "The upload took too long",
  "too-many-bytes": "The file is too large",
  "too-many-pixels": "The picture is too large",
  "too-many-images": "Too many pictures",
  "too-detailed": "Too much detail",
  "out-of-memory": "The picture is too large",
  "unknown-format": "This kind of file cannot be read",
  "wrong-content-type": "This kind of file cannot be read",
  "broken-image": "The picture is damaged",
  "no-image": "There is no picture in it",
  "unauthorized": "A token is needed",
  "foreign-origin": "This address may not use the service",
  "offline": "The service does not answer",
  "camera": "The camera cannot be used",
  "internal": "Something went wrong in the service",
};

/** An error with words: `code` (see the service's problems), what happened, what to do, the request's id. */
export class Problem extends Error {
  constructor(code, detail, hint = "", id = "", wait = 0) {
    super(detail);
    Object.assign(this, { code, detail, hint, id, wait });
  }
  get title() { return TITLES[this.code] ?? "That did not work"; }
}

export const offline = () => new Problem("offline", "Nothing came back from the service.",
  "It may have been stopped, or the network is down. Try again in a moment.");

/** Counts as percentages with one decimal that add up to exactly 100.0 (largest remainders). */
export function percentages(counts) {
  const total = counts.reduce((sum, each) => sum + each, 0);
  const exact = counts.map((each) => 1000 * each / total);
  const tenths = exact.map(Math.floor);
  const left = 1000 - tenths.reduce((sum, each) => sum + each, 0);
  const order = exact.map((value, index) => [value - tenths[index], index]).sort((a, b) => b[0] - a[0]);
  for (const [, index] of order.slice(0, left)) tenths[index] += 1;
  return tenths.map((each) => each / 10);
}

export const percent = (value) => `${value.toFixed(1)} %`;
export const mebibytes = (bytes) => `${+(bytes / 2 ** 20).toPrecision(3)} MiB`;
export const seconds = (ms) => ms < 995 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
