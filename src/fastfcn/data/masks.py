"""Masks, the files in which a data set publishes its labels, and what their values mean.

A mask's value is the number stored in a grey or palette file, or the colour of a colour mask as
red * 65536 + green * 256 + blue. A table with an entry for every value gives the class.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from fastfcn.data.description import DataSetDescription
from fastfcn.data.images import opened
from fastfcn.utils.types import IGNORE_INDEX

UNNAMED = 254  # in tables: a value that the description does not name
STRETCHED = {"L;2": 85, "L;4": 17}  # Pillow stretches the numbers of 2 and 4 bit grey files to 0-255 by these


def read_mask(path: Path, labels_kind: str) -> np.ndarray:
    """The values of the mask at `path`, (H, W): unsigned integers of 8, 16 or 32 bits. Raises DataError.

    The mask is decoded by Pillow, because OpenCV and torchvision replace palette numbers by colours.
    """
    with opened(path) as image:
        return _colors(image) if labels_kind == "color" else _indices(image)


def class_table(description: DataSetDescription) -> np.ndarray:
    """The class index of every mask value, or IGNORE_INDEX, or UNNAMED; uint8 (65536,), for colours (2^24,)."""
    colored = description.labels_kind == "color"
    table = np.full(1 << 24 if colored else 1 << 16, UNNAMED, np.uint8)
    for entries, first in ((description.classes, 0), (description.ignored, None)):
        for index, entry in enumerate(entries):
            values = [_color_value(entry.color)] if colored and entry.color else list(entry.ids)
            table[values] = IGNORE_INDEX if first is None else index
    return table


def describe_value(value: int, labels_kind: str) -> str:
    """`value` as a user would write it: 12, or [128, 64, 0] for a colour."""
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
                'it is a colour mask, but the data set\'s masks hold numbers (labels_kind = "index"); '
                'for colours write labels_kind = "color"'
            )
        case mode if mode.startswith("I"):
            values = np.array(image).astype(np.int64)
            if values.min() < 0 or values.max() > 65535:
                raise ValueError(f"its values go from {values.min()} to {values.max()}, more than 16 bits hold")
            return values.astype(np.uint16)
        case mode:
            raise ValueError(f"masks cannot have Pillow's mode {mode!r}; write 8-bit grey or palette PNG")


def _colors(image: Image.Image) -> np.ndarray:
    red, green, blue = (np.array(band, dtype=np.uint32) for band in image.convert("RGB").split())
    return red << 16 | green << 8 | blue


def _color_value(color: tuple[int, int, int]) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


def _raw_mode(image: Image.Image) -> str:
    tile = getattr(image, "tile", None)
    return str(tile[0][3]) if tile else ""
