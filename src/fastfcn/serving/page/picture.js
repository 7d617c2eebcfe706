// From a file to a picture to show and a file to send.
import { Problem, mebibytes } from "./words.js";

/**
 * `bitmap` to show (null where the browser cannot read it, such as TIFF), `sent` (a Blob), and `from`, the size before
 * shrinking, where it was shrunk to `longest` pixels. Throws a Problem where the file cannot be sent.
 */
export async function prepare(file, longest, limits) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  const size = bitmap ? [bitmap.width, bitmap.height] : null;
  const known = limits.media_types.includes(file.type) || file.type === "";
  if (bitmap && (Math.max(...size) > longest || !known)) {
    const factor = Math.min(1, longest / Math.max(...size));
    const sent = await redrawn(bitmap, factor);
    const shown = await createImageBitmap(sent);
    return { bitmap: shown, sent, from: factor < 1 ? size : null, name: file.name };
  }
  if (file.size > limits.bytes) {
    throw new Problem("too-many-bytes", `The file has ${mebibytes(file.size)}; ${mebibytes(limits.bytes)} are allowed.`,
      "Let it be shrunk (full size switched off), or choose a smaller one.");
  }
  if (size && size[0] * size[1] > limits.pixels) {
    throw new Problem("too-many-pixels",
      `The picture has ${size[0]} × ${size[1]} pixels; ${(limits.pixels / 1e6).toFixed(1)} million are allowed.`,
      "Switch “full size” off and it is shrunk before it is sent.");
  }
  return { bitmap, sent: file, from: null, name: file.name };
}

async function redrawn(bitmap, factor) {
  const canvas = new OffscreenCanvas(Math.max(1, Math.round(bitmap.width * factor)),
    Math.max(1, Math.round(bitmap.height * factor)));
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.94 });
}

/** Let the browser save `blob` under `name`. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
