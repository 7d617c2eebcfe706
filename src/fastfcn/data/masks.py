"""Read masks, the image files that store a dataset's labels, and map their values to classes.

A mask value is the number stored in a grayscale or palette file, or the color in a color mask as
red * 65536 + green * 256 + blue. A lookup table with an entry for every possible value maps values to classes.
"""

from pathlib import Path

import numpy as np

from fastfcn.data.decoding import StoredFile, as_colors, as_numbers, open_image
from fastfcn.data.description import DatasetDescription
from fastfcn.utils.sizes import IGNORE_INDEX

UNNAMED = 254  # table entry of values that are not in the description


def read_mask(path: Path | StoredFile, labels_kind: str) -> np.ndarray:
    """Read the values of the mask at `path`, (H, W): unsigned integers of 8, 16 or 32 bits. Raises DataError.

    What each pixel format becomes is in the table of fastfcn.data.decoding. Pillow decodes masks, because OpenCV and
    torchvision replace palette numbers by colors.
    """
    with open_image(path) as image:
        return as_colors(image) if labels_kind == "color" else as_numbers(image)


def class_table(description: DatasetDescription) -> np.ndarray:
    """Lookup table of class indices, IGNORE_INDEX or UNNAMED: uint8 (65536,), or (2^24,) for color masks."""
    kind = description.labels_kind
    table = np.full(1 << 24 if kind == "color" else 1 << 16, UNNAMED, np.uint8)
    for entries, first in ((description.classes, 0), (description.ignored, None)):
        for index, entry in enumerate(entries):
            values = [value if isinstance(value, int) else _color_value(value) for value in entry.mask_values(kind)]
            table[values] = IGNORE_INDEX if first is None else index
    return table


def describe_value(value: int, labels_kind: str) -> str:
    """Format a mask value: 12, or [128, 64, 0] for a color."""
    return str([value >> 16, value >> 8 & 255, value & 255]) if labels_kind == "color" else str(value)


def _color_value(color: tuple[int, int, int]) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]
