"""One mask: whether it is whole, its values, and whether its edges are blurred."""

import io
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from PIL import Image

from fastfcn.checking.flags import Sign
from fastfcn.checking.image_reading import broken, reason
from fastfcn.data.images import BROKEN
from fastfcn.data.masks import STRETCHED
from fastfcn.utils.types import Size

MAX_COLORS = 1024  # a mask of more is a picture, or blurred
MAX_NUMBERS = 100  # a mask of more, nowhere flat, is a picture
# Between flat areas of a mask, values change at once; blurred ones pass through what lies between. Share of changes
# that go on in the same direction at the next pixel: at most 0.02 in the numbers and 0.10 in the brightness of clean
# masks of CamVid, ADE20K, COCO-Stuff and VOC, 0.12 and more, mostly 0.2 to 0.6, once they have been scaled or were
# JPEG files. Masks without flat areas, such as random ones, cannot be judged.
BLURRED, BLURRED_COLORS = 0.12, 0.16
FLAT = 0.3  # share of neighbours that differ, up to which a mask has flat areas
FEWEST = 8  # pixels
REAL = 0.005  # share of a blurred mask's flat pixels from which a value is taken for a real one

Color = tuple[int, int, int]


class MaskSeen(NamedTuple):
    """What a mask is. `counts` says how many pixels have each number, int64 (256,), where it holds numbers; `colors`
    how many have each colour where it holds colours. Where it is blurred or stored with loss, only flat areas count.
    """

    signs: Sign
    size: Size = (0, 0)
    counts: np.ndarray | None = None
    colors: dict[Color, int] | None = None
    palette: bytes = b""
    trouble: str = ""


def see_mask(path: Path) -> MaskSeen:
    """Read the mask at `path`; never raises for a broken file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return MaskSeen(Sign.MASK_UNREADABLE, trouble=error.strerror or str(error))
    try:
        with Image.open(io.BytesIO(data)) as image:
            signs = _container(image, data)
            stretch = STRETCHED.get(str(image.tile[0][3]), 1) if getattr(image, "tile", None) else 1
            image.load()
            seen = _see(image, stretch, bool(signs & Sign.MASK_LOSSY))
            return seen._replace(signs=seen.signs | signs, size=(image.height, image.width))
    except BROKEN as error:
        trouble = reason(data, error)
        return MaskSeen(broken(trouble, Sign.MASK_TRUNCATED, Sign.MASK_UNREADABLE), trouble=trouble)


def _container(image: Image.Image, data: bytes) -> Sign:
    signs = Sign(0)
    if image.format in ("JPEG", "MPO", "JPEG2000", "AVIF") or data[12:16] == b"VP8 ":
        signs |= Sign.MASK_LOSSY
    if image.format != "MPO" and getattr(image, "is_animated", False):
        signs |= Sign.MASK_FRAMES
    return signs


def _see(image: Image.Image, stretch: int, lossy: bool) -> MaskSeen:
    match image.mode:
        case "1" | "L" | "P":
            return _numbers(image, stretch, lossy)
        case "LA" | "PA":
            return _numbers(image.getchannel(0), stretch, lossy)
        case "RGB" | "RGBA" | "RGBX" | "CMYK" | "YCbCr":
            return _colors(image, lossy)
        case mode if mode.startswith("I"):
            return _long_numbers(np.asarray(image))
        case mode:
            return MaskSeen(Sign.MASK_MODE, trouble=f"its pixels are of Pillow's mode {mode!r}")


def _numbers(image: Image.Image, stretch: int, lossy: bool) -> MaskSeen:
    counts = np.array(image.histogram(), np.int64)
    if image.mode == "1":
        counts[1], counts[255] = counts[255], 0
    if stretch > 1:
        counts = np.pad(counts[::stretch], (0, 256 - len(counts[::stretch])))
    signs, palette = Sign(0), b""
    if image.mode == "P":
        signs, palette = Sign.MASK_PALETTE, bytes(image.getpalette("RGB") or b"")
    values = np.asarray(image)
    if np.count_nonzero(counts) > 2 and (lossy or blurred(values, BLURRED)):
        signs |= Sign.MASK_BLURRED
        counts = np.bincount(values[flat(values)] // stretch, minlength=256)
        counts[counts < REAL * counts.sum()] = 0
    elif np.count_nonzero(counts) > MAX_NUMBERS and flat(values).mean() < REAL:
        return MaskSeen(signs | Sign.MASK_PICTURE, counts=counts * 0, trouble="it has the brightness of a picture")
    return MaskSeen(signs | _single(counts), counts=counts, palette=palette)


def _single(counts: np.ndarray) -> Sign:
    return Sign.ONE_VALUE if np.count_nonzero(counts) == 1 else Sign(0)


def _long_numbers(values: np.ndarray) -> MaskSeen:
    low, high = int(values.min()), int(values.max())
    if low < 0:
        return MaskSeen(Sign.MASK_MODE, trouble=f"its values go from {low} to {high}")
    if high > 255:
        return MaskSeen(Sign.MASK_BIG_NUMBERS, trouble=f"its values go up to {high}")
    counts = np.bincount(values.ravel(), minlength=256)
    return MaskSeen(Sign.MASK_16_BIT | _single(counts), counts=counts)


def _colors(image: Image.Image, lossy: bool) -> MaskSeen:
    signs = Sign(0)
    if image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255):
        signs |= Sign.MASK_TRANSPARENT
    image = image.convert("RGB")
    found = image.getcolors(MAX_COLORS)
    colors = {cast(Color, color): count for count, color in found} if found else None
    if colors is None or len(colors) > 2:
        values = np.asarray(image.convert("L"))
        if lossy or blurred(values, BLURRED_COLORS):
            signs |= Sign.MASK_BLURRED
            colors = _flat_colors(image, values)
        elif colors is None:
            signs |= Sign.MASK_PICTURE | Sign.MASK_COLORED
            return MaskSeen(signs, colors={}, trouble="it has the colours of a picture")
    assert colors is not None
    if len(colors) == 1:
        signs |= Sign.ONE_VALUE
    if all(red == green == blue for red, green, blue in colors):
        counts = np.zeros(256, np.int64)
        for (value, _, _), count in colors.items():
            counts[value] = count
        return MaskSeen(signs | Sign.MASK_GRAY_COLORS, counts=counts)
    return MaskSeen(signs | Sign.MASK_COLORED, colors=colors)


def _flat_colors(image: Image.Image, values: np.ndarray) -> dict[Color, int]:
    pixels = np.asarray(image)[flat(values)]
    packed = pixels.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    found, counts = np.unique(packed, return_counts=True)
    real = counts >= REAL * counts.sum()
    return {
        (int(value) >> 16, int(value) >> 8 & 255, int(value) & 255): int(count)
        for value, count in zip(found[real], counts[real], strict=True)
    }


def blurred(values: np.ndarray, limit: float) -> bool:
    """Whether the edges of `values` (H, W) go through other values, although there are flat areas between them."""
    changes = onward = 0
    for each in (values, values.T):
        up, down = each[:, 1:] > each[:, :-1], each[:, 1:] < each[:, :-1]
        changes += np.count_nonzero(up) + np.count_nonzero(down)
        onward += np.count_nonzero(up[:, 1:] & up[:, :-1]) + np.count_nonzero(down[:, 1:] & down[:, :-1])
    return bool(onward >= FEWEST and onward >= limit * changes and changes <= FLAT * 2 * values.size)


def flat(values: np.ndarray) -> np.ndarray:
    """Which pixels of `values` (H, W) equal their four neighbours, those beyond the border included; bool (H, W)."""
    same = np.ones(values.shape, bool)
    across, along = values[:, 1:] == values[:, :-1], values[1:] == values[:-1]
    same[:, 1:] &= across
    same[:, :-1] &= across
    same[1:] &= along
    same[:-1] &= along
    return same
