"""Inspect one image, and find duplicate and similar images by digest and fingerprint."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from fastfcn.checking.problem import Flag
from fastfcn.data.bands import TIFF
from fastfcn.data.decoding import DECODE_ERRORS, explain, has_16_bits, is_dark, orientation, read_bytes, upright_size
from fastfcn.utils.sizes import Size

CELLS = 5  # a fingerprint is the brightness of CELLS x CELLS cells
GRID = 8  # a hash has GRID x GRID bits
TEXTURE = 6.0  # standard deviation of the cells below which an image is too uniform for a fingerprint


class ImageInfo(NamedTuple):
    """The results of inspecting one image: `stored` is (height, width) in the file, `upright` after EXIF rotation.

    `digest` is a hash of the file; `fingerprint` is the brightness of CELLS x CELLS cells, with zero mean and unit
    variance, in steps of 1/32, int8 (CELLS * CELLS,), or all -128 if there is none. `gradients` is a perceptual hash:
    a bit for each place of a grid where brightness increases to the right, uint8 (GRID,).
    """

    flags: Flag
    stored: Size = (0, 0)
    upright: Size = (0, 0)
    digest: int = 0
    fingerprint: np.ndarray = np.full(CELLS * CELLS, -128, np.int8)
    gradients: np.ndarray = np.zeros(GRID, np.uint8)
    failure: str = ""


def inspect_image(path: Path) -> ImageInfo:
    """Decode the image at `path` at reduced size; never raises for a broken file."""
    try:
        data = read_bytes(path)
    except (OSError, ValueError) as error:
        return ImageInfo(Flag.IMAGE_UNREADABLE, failure=explain(error))
    digest = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
    try:
        with Image.open(io.BytesIO(data)) as image:
            return _inspect(image)._replace(digest=digest)
    except DECODE_ERRORS as error:
        failure = explain_failure(data, error)
        if isinstance(error, Image.DecompressionBombError):
            return ImageInfo(Flag.IMAGE_TOO_LARGE, digest=digest, failure=failure)
        flag = failure_flag(failure, Flag.IMAGE_TRUNCATED, Flag.IMAGE_UNREADABLE)
        return ImageInfo(flag, digest=digest, failure=failure)


def explain_failure(data: bytes, error: Exception) -> str:
    """Why a file cannot be decoded, in words for the user."""
    if not data:
        return "the file is empty"
    if data.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file itself (run: git lfs pull)"
    if data.lstrip()[:1] == b"<":
        return "it is a web page or XML, not an image"
    if data.startswith(TIFF) and isinstance(error, UnidentifiedImageError):
        return "Pillow cannot read this TIFF; with pip install 'fastfcn[geo]', it may be read as bands"
    return explain(error)


def failure_flag(failure: str, truncated: Flag, unreadable: Flag) -> Flag:
    """The flag of a file that cannot be decoded."""
    cut = ("truncated", "unexpected end", "not enough image data", "broken data stream")
    return truncated if any(word in failure.lower() for word in cut) else unreadable


def _inspect(image: Image.Image) -> ImageInfo:
    flags, (width, height) = _format_flags(image), image.size
    size, deep = upright_size(image), has_16_bits(image)
    if orientation(image) != 1:
        flags |= Flag.IMAGE_ROTATED
    if image.format == "JPEG":
        image.draft("L", (8 * CELLS, 8 * CELLS))  # up to an eighth of the size; the whole file is still decoded
    image.load()
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        flags |= _range_flags(image)
    elif deep and is_dark(np.asarray(image.convert("RGB"))):
        flags |= Flag.IMAGE_16_BIT_DARK
    small = _brightness(image)
    low, high = small.getextrema()
    if low == high:
        flags |= Flag.IMAGE_BLANK
    return ImageInfo(flags, (height, width), size, fingerprint=fingerprint(small), gradients=gradients(small))


def _format_flags(image: Image.Image) -> Flag:
    flags = Flag(0)
    if image.mode in ("RGBA", "LA", "PA", "CMYK", "RGBa", "La") or "transparency" in image.info:
        flags |= Flag.IMAGE_CHANNELS
    if image.mode.startswith("I") or has_16_bits(image):
        flags |= Flag.IMAGE_16_BIT
    if image.format != "MPO" and getattr(image, "is_animated", False):
        flags |= Flag.IMAGE_FRAMES
    return flags


def _range_flags(image: Image.Image) -> Flag:
    """Flags for values of more than 8 bits, of which `read_image` keeps bits 8 to 15."""
    low, high = image.getextrema()
    if image.mode == "F" or not 0 <= float(low) <= float(high) <= 65535:  # type: ignore[arg-type]
        return Flag.IMAGE_MODE
    return Flag.IMAGE_16_BIT_DARK if is_dark(np.asarray(image).astype(np.int64) >> 8) else Flag(0)


def _brightness(image: Image.Image) -> Image.Image:
    """The image as 8-bit grayscale, downsampled."""
    if image.mode.startswith("I") or image.mode == "F":
        return scaled_gray(np.asarray(image))
    factor = min(image.size) // (4 * CELLS)
    if factor > 1 and image.mode in ("L", "RGB", "RGBA", "CMYK"):
        image = image.reduce(factor)
    return image if image.mode == "L" else image.convert("RGB").convert("L")


def scaled_gray(values: np.ndarray) -> Image.Image:
    """Values (H, W) as 8-bit grayscale, from the smallest to the largest."""
    values = values.astype(np.float64)
    span = values.max() - values.min()
    return Image.fromarray(((values - values.min()) * (255 / span if span else 0)).astype(np.uint8))


def fingerprint(image: Image.Image) -> np.ndarray:
    """The fingerprint of a grayscale image, see `ImageInfo`."""
    parts = np.asarray(image.resize((CELLS, CELLS), Image.Resampling.BOX), np.float32).ravel()
    spread = float(parts.std())
    if spread < TEXTURE:
        return np.full(CELLS * CELLS, -128, np.int8)
    return np.clip(np.rint((parts - parts.mean()) / spread * 32), -127, 127).astype(np.int8)


def gradients(image: Image.Image) -> np.ndarray:
    """The perceptual hash of a grayscale image, see `ImageInfo`."""
    parts = np.asarray(image.resize((GRID + 1, GRID), Image.Resampling.BOX), np.int16)
    return np.packbits(np.diff(parts, axis=1) > 1, axis=1)[:, 0]  # steps of 1 are noise of flat areas


SIMILAR = 4  # maximum difference per cell between fingerprints of copies, in steps of 1/32 standard deviation
CANDIDATES = 4096  # maximum image pairs compared at a time


def duplicate_groups(digests: np.ndarray) -> np.ndarray:
    """Number the groups of equal digests from 1; 0 for unique ones; int32 (images,)."""
    order = np.argsort(digests, kind="stable").astype(np.uint32)
    same = digests[order[1:]] == digests[order[:-1]]
    same &= digests[order[1:]] != 0
    groups, number = np.zeros(len(digests), np.int32), 0
    for index in np.flatnonzero(same):
        number += not (index and same[index - 1])
        groups[order[index : index + 2]] = number
    return groups


def find_similar(
    fingerprints: np.ndarray, splits: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, tuple[int, int] | None]:
    """Find images that look almost like an image of another split.

    Returns which, bool (images,), and the indices of one such pair. Pairs that are both `known` (to be identical to
    others) are skipped.
    """
    similar, example = np.zeros(len(fingerprints), bool), None
    for first, second in similar_pairs(fingerprints, splits):
        fresh = ~(known[first] & known[second])
        first, second = first[fresh], second[fresh]
        similar[first] = similar[second] = True
        if len(first) and not example:
            example = (int(min(first[0], second[0])), int(max(first[0], second[0])))
    return similar, example


def similar_pairs(fingerprints: np.ndarray, groups: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the indices of images of different groups that look almost the same, some pairs at a time."""
    usable = np.flatnonzero(fingerprints[:, 0] != -128).astype(np.uint32)
    order = usable[np.argsort(fingerprints[usable, CELLS * CELLS // 2], kind="stable")]
    prints, groups_in_order = fingerprints[order], groups[order]
    middles = prints[:, CELLS * CELLS // 2].astype(np.int16)
    start = 0
    while start < len(order):
        rows, columns = _block(middles, start)
        first, second = _compare(prints, groups_in_order, rows, columns)
        yield order[first], order[second]
        start = rows.stop


def _block(middles: np.ndarray, start: int) -> tuple[slice, slice]:
    """Rows from `start`, and the columns with all later images that may be similar: at most CANDIDATES combinations."""
    stop = start + 1
    while True:
        last = int(np.searchsorted(middles, middles[stop - 1] + SIMILAR, side="right"))
        more = min(2 * stop - start, len(middles))
        if more == stop or (more - start) * (last - start) > CANDIDATES:
            return slice(start, stop), slice(start, last)
        stop = more


def _compare(prints: np.ndarray, groups: np.ndarray, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of similar images in `rows` and `columns` from different splits, each pair once.

    Cells are compared one by one, because few candidates remain after the first.
    """
    later = np.arange(columns.start, columns.stop, dtype=np.int32)
    earlier = np.arange(rows.start, rows.stop, dtype=np.int32)
    close = (groups[rows, None] != groups[None, columns]) & (later[None] > earlier[:, None])
    first, second = np.nonzero(close)
    first, second = first + rows.start, second + columns.start
    for cell in range(CELLS * CELLS):
        kept = np.abs(prints[first, cell].astype(np.int16) - prints[second, cell]) <= SIMILAR
        first, second = first[kept], second[kept]
    return first, second
