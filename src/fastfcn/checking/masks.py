"""Inspect one mask: whether it decodes, its values, and whether its edges are blurred."""

import io
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from PIL import Image

from fastfcn.checking.images import explain_failure, failure_flag
from fastfcn.checking.problem import Flag
from fastfcn.data.decoding import DECODE_ERRORS, as_numbers, explain, has_16_bits, read_bytes
from fastfcn.utils.sizes import Size

MAX_COLORS = 1024  # a mask with more is a photo or blurred
MAX_IDS = 100  # a mask with more and without flat areas is a photo
# In sharp masks, values change abruptly between flat areas; in blurred ones they pass through intermediate values.
# Fraction of changes that continue in the same direction at the next pixel: at most 0.02 for ids and 0.10 for
# brightness in clean masks of CamVid, ADE20K, COCO-Stuff and VOC; at least 0.12, mostly 0.2 to 0.6, after resizing or
# JPEG compression. Masks without flat areas, such as random ones, cannot be judged.
BLURRED, BLURRED_COLORS = 0.12, 0.16
FLAT = 0.3  # maximum fraction of neighboring pixels that differ in a mask with flat areas
MIN_CHANGES = 8  # pixels
MIN_VALID = 0.005  # minimum fraction of a blurred mask's flat pixels that a valid value has

Color = tuple[int, int, int]


class MaskInfo(NamedTuple):
    """The results of inspecting one mask.

    `counts`: pixels per id, int64 (256,), if it contains ids; `colors`: pixels per color, if it contains colors. In
    blurred and lossy masks, only flat areas are counted.
    """

    flags: Flag
    size: Size = (0, 0)
    counts: np.ndarray | None = None
    colors: dict[Color, int] | None = None
    palette: bytes = b""
    failure: str = ""


def inspect_mask(path: Path) -> MaskInfo:
    """Decode the mask at `path`; never raises for a broken file."""
    try:
        data = read_bytes(path)
    except (OSError, ValueError) as error:
        return MaskInfo(Flag.MASK_UNREADABLE, failure=explain(error))
    try:
        with Image.open(io.BytesIO(data)) as image:
            flags = _format_flags(image, data)
            info = _inspect(image, bool(flags & Flag.MASK_LOSSY))
            return info._replace(flags=info.flags | flags, size=(image.height, image.width))
    except DECODE_ERRORS as error:
        failure = explain_failure(data, error)
        if isinstance(error, Image.DecompressionBombError):
            return MaskInfo(Flag.MASK_TOO_LARGE, failure=failure)
        return MaskInfo(failure_flag(failure, Flag.MASK_TRUNCATED, Flag.MASK_UNREADABLE), failure=failure)


def _format_flags(image: Image.Image, data: bytes) -> Flag:
    flags = Flag(0)
    if image.format in ("JPEG", "MPO", "JPEG2000", "AVIF") or data[12:16] == b"VP8 ":
        flags |= Flag.MASK_LOSSY
    if image.format != "MPO" and getattr(image, "is_animated", False):
        flags |= Flag.MASK_FRAMES
    return flags


def _inspect(image: Image.Image, lossy: bool) -> MaskInfo:
    """Inspect an image that is not decoded yet, because the stored bits are not known afterwards."""
    match image.mode:
        case "1" | "L" | "P" | "LA" | "PA":
            return _mode_problem(image) if has_16_bits(image) and image.mode == "LA" else _ids(image, lossy)
        case "RGB" | "RGBA" | "RGBX" if not has_16_bits(image):
            return _colors(image, lossy)
        case mode if mode.startswith("I"):
            return _wide_ids(image)
        case _:
            return _mode_problem(image)


def _mode_problem(image: Image.Image) -> MaskInfo:
    try:
        as_numbers(image)
    except ValueError as error:
        return MaskInfo(Flag.MASK_MODE, failure=explain(error))
    return MaskInfo(Flag.MASK_MODE, failure=f"its pixels have Pillow's mode {image.mode!r}")


def _ids(image: Image.Image, lossy: bool) -> MaskInfo:
    values = as_numbers(image)
    counts = np.array(Image.fromarray(values).histogram(), np.int64)
    flags, palette = Flag(0), b""
    if image.mode == "P":
        flags, palette = Flag.MASK_PALETTE, bytes(image.getpalette("RGB") or b"")
    if np.count_nonzero(counts) > 2 and (lossy or blurred(values, BLURRED)):
        flags |= Flag.MASK_BLURRED
        counts = np.bincount(values[flat(values)], minlength=256)
        counts[counts < MIN_VALID * counts.sum()] = 0
    elif np.count_nonzero(counts) > MAX_IDS and flat(values).mean() < MIN_VALID:
        return MaskInfo(flags | Flag.MASK_IS_PHOTO, counts=counts * 0, failure="it looks like a grayscale photo")
    return MaskInfo(flags | _single(counts), counts=counts, palette=palette)


def _single(counts: np.ndarray) -> Flag:
    return Flag.SINGLE_VALUE if np.count_nonzero(counts) == 1 else Flag(0)


def _wide_ids(image: Image.Image) -> MaskInfo:
    try:
        values = as_numbers(image)
    except ValueError as error:
        negative = np.asarray(image).min() < 0
        return MaskInfo(Flag.MASK_MODE if negative else Flag.MASK_IDS_TOO_LARGE, failure=explain(error))
    if values.max() > 255:
        return MaskInfo(Flag.MASK_IDS_TOO_LARGE, failure=f"its values go up to {values.max()}")
    counts = np.bincount(values.ravel(), minlength=256)
    return MaskInfo(Flag.MASK_16_BIT | _single(counts), counts=counts)


def _colors(image: Image.Image, lossy: bool) -> MaskInfo:
    flags = Flag(0)
    if image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255):
        flags |= Flag.MASK_TRANSPARENT
    image = image.convert("RGB")
    listed = image.getcolors(MAX_COLORS)
    colors = {cast(Color, color): count for count, color in listed} if listed else None
    if colors is None or len(colors) > 2:
        values = np.asarray(image.convert("L"))
        if lossy or blurred(values, BLURRED_COLORS):
            flags |= Flag.MASK_BLURRED
            colors = _flat_colors(image, values)
        elif colors is None:
            flags |= Flag.MASK_IS_PHOTO | Flag.MASK_COLORED
            return MaskInfo(flags, colors={}, failure="it looks like a color photo")
    assert colors is not None
    if len(colors) == 1:
        flags |= Flag.SINGLE_VALUE
    if all(red == green == blue for red, green, blue in colors):
        counts = np.zeros(256, np.int64)
        for (value, _, _), count in colors.items():
            counts[value] = count
        return MaskInfo(flags | Flag.MASK_GRAY_COLORS, counts=counts)
    return MaskInfo(flags | Flag.MASK_COLORED, colors=colors)


def _flat_colors(image: Image.Image, values: np.ndarray) -> dict[Color, int]:
    pixels = np.asarray(image)[flat(values)]
    packed = pixels.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    packed_colors, counts = np.unique(packed, return_counts=True)
    real = counts >= MIN_VALID * counts.sum()
    return {
        (int(value) >> 16, int(value) >> 8 & 255, int(value) & 255): int(count)
        for value, count in zip(packed_colors[real], counts[real], strict=True)
    }


def blurred(values: np.ndarray, limit: float) -> bool:
    """Whether edges in `values` (H, W) pass through intermediate values, in a mask that has flat areas."""
    changes = continued = 0
    for entry in (values, values.T):
        up, down = entry[:, 1:] > entry[:, :-1], entry[:, 1:] < entry[:, :-1]
        changes += np.count_nonzero(up) + np.count_nonzero(down)
        continued += np.count_nonzero(up[:, 1:] & up[:, :-1]) + np.count_nonzero(down[:, 1:] & down[:, :-1])
    return bool(continued >= MIN_CHANGES and continued >= limit * changes and changes <= FLAT * 2 * values.size)


def flat(values: np.ndarray) -> np.ndarray:
    """Which pixels of `values` (H, W) equal their four neighbors (a missing neighbor counts as equal); bool (H, W)."""
    same = np.ones(values.shape, bool)
    across, along = values[:, 1:] == values[:, :-1], values[1:] == values[:-1]
    same[:, 1:] &= across
    same[:, :-1] &= across
    same[1:] &= along
    same[:-1] &= along
    return same
