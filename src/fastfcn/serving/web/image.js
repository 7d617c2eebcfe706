// Prepare an image file for display and upload.
import { Problem, mebibytes } from "./text.js";

/**
 * Returns `bitmap` to show (null for formats that the browser cannot decode, such as TIFF), `upload` (a Blob), and
 * `originalSize` if the image was reduced to `longest` pixels. Throws a Problem if the file exceeds the limits.
 */
export async function prepare(file, longest, limits) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  const size = bitmap ? [bitmap.width, bitmap.height] : null;
  const supported = limits.media_types.includes(file.type) || file.type === "";
  if (bitmap && (Math.max(...size) > longest || !supported)) {
    const factor = Math.min(1, longest / Math.max(...size));
    const upload = await redraw(bitmap, factor);
    const shown = await createImageBitmap(upload);
    return { bitmap: shown, upload, originalSize: factor < 1 ? size : null, name: file.name };
  }
  if (file.size > limits.bytes) {
    throw new Problem("too-many-bytes", `The file has ${mebibytes(file.size)}; the limit is ${mebibytes(limits.bytes)}.`,
      "Turn off “full size” to reduce it before upload, or choose a smaller file.");
  }
  if (size && size[0] * size[1] > limits.pixels) {
    throw new Problem("too-many-pixels",
      `The image has ${size[0]} × ${size[1]} pixels; the limit is ${(limits.pixels / 1e6).toFixed(1)} million.`,
      "Turn off “full size” to reduce it before upload.");
  }
  return { bitmap, upload: file, originalSize: null, name: file.name };
}

async function redraw(bitmap, factor) {
  const canvas = new OffscreenCanvas(Math.max(1, Math.round(bitmap.width * factor)),
    Math.max(1, Math.round(bitmap.height * factor)));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.94 });
}

/** Download `blob` as `name`. */
export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
