"""Read masks, the image files that store a dataset's labels, and map their values to classes.

A mask value is the number stored in a grayscale or palette file, or the color in a color mask as
red * 65536 + green * 256 + blue. A lookup table with an entry for every possible value maps values to classes.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from fastfcn.data.description import DatasetDescription
from fastfcn.data.images import opened
from fastfcn.utils.sizes import IGNORE_INDEX

UNNAMED = 254  # table entry of values that are not in the description
STRETCHED = {"L;2": 85, "L;4": 17}  # Pillow multiplies the values of 2- and 4-bit grayscale files by these


def read_mask(path: Path, labels_kind: str) -> np.ndarray:
    """Read the values of the mask at `path`, (H, W): unsigned integers of 8, 16 or 32 bits. Raises DataError.

    Masks are decoded with Pillow, because OpenCV and torchvision convert palette indices to colors.
    """
    with opened(path) as image:
        return _colors(image) if labels_kind == "color" else _indices(image)


def class_table(description: DatasetDescription) -> np.ndarray:
    """Lookup table of class indices, IGNORE_INDEX or UNNAMED: uint8 (65536,), or (2^24,) for color masks."""
    colored = description.labels_kind == "color"
    table = np.full(1 << 24 if colored else 1 << 16, UNNAMED, np.uint8)
    for entries, first in ((description.classes, 0), (description.ignored, None)):
        for index, entry in enumerate(entries):
            values = [_color_value(entry.color)] if colored and entry.color else list(entry.ids)
            table[values] = IGNORE_INDEX if first is None else index
    return table


def describe_value(value: int, labels_kind: str) -> str:
    """Format a mask value: 12, or [128, 64, 0] for a color."""
    return str([value >> 16, value >> 8 & 255, value & 255]) if labels_kind == "color" else str(value)


def _indices(image: Image.Image) -> np.ndarray:
    match image.mode:
        case "1" | "L" | "P":
            stretch = STRETCHED.get(_raw_mode(image), 1)
            return np.array(image, dtype=np.uint8) // np.uint8(stretch)
        case "LA" | "PA":
            return np.array(image, dtype=np.uint8)[..., 0]
        case "RGB" | "RGBA":
            channels = np.array(image)
            if (channels[..., 0] == channels[..., 1]).all() and (channels[..., 0] == channels[..., 2]).all():
                return channels[..., 0]
            raise ValueError(
                'it is a color mask, but labels_kind is "index"; for color masks use labels_kind = "color"'
            )
        case mode if mode.startswith("I"):
            values = np.array(image).astype(np.int64)
            if values.min() < 0 or values.max() > 65535:
                raise ValueError(f"its values range from {values.min()} to {values.max()}, which exceeds 16 bits")
            return values.astype(np.uint16)
        case mode:
            raise ValueError(f"masks cannot have Pillow's mode {mode!r}; write 8-bit grayscale or palette PNG")


def _colors(image: Image.Image) -> np.ndarray:
    red, green, blue = (np.array(band, dtype=np.uint32) for band in image.convert("RGB").split())
    return red << 16 | green << 8 | blue


def _color_value(color: tuple[int, int, int]) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


def _raw_mode(image: Image.Image) -> str:
    tile = getattr(image, "tile", None)
    return str(tile[0][3]) if tile else ""
