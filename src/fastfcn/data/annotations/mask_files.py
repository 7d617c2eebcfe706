"""Exports that are masks already: what their values mean, and a shape per class."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from fastfcn.data.annotations.export import Entry, Export, Shape
from fastfcn.data.annotations.shapes import Region
from fastfcn.data.images import image_size
from fastfcn.data.masks import describe_value, read_mask
from fastfcn.errors import DataError
from fastfcn.utils.sizes import Size


def add_mask(
    export: Export, image: Path, mask: Path, where: str, split: str, labels_kind: str, names: Mapping[int, str]
) -> None:
    """Add an entry for an image with a mask; `names` are the classes of the mask's values (see `read_mask`)."""
    with export.noting(where):
        shapes = partial(_shapes, mask, labels_kind, names)
        export.entries.append(Entry(image, where, split, image_size(mask), shapes))


def color_value(color: tuple[int, int, int]) -> int:
    """A color as a mask value."""
    return color[0] << 16 | color[1] << 8 | color[2]


def _shapes(path: Path, labels_kind: str, names: Mapping[int, str], size: Size) -> Iterator[Shape]:
    values = read_mask(path, labels_kind)
    present, counts = np.unique(values, return_counts=True)
    for value, count in zip(present.tolist(), counts.tolist(), strict=True):
        if value not in names:
            shown = describe_value(value, labels_kind)
            raise DataError(f"the class list does not name the value {shown}, which {count} pixels have")
        yield Shape(names[value], Region(0, 0, values == value))
