"""From the shapes of an image to its mask, by stated rules for overlaps, crowds and pixels without a shape."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from fastfcn.data.annotations.export import Shape
from fastfcn.data.annotations.shapes import EMPTY, Region
from fastfcn.errors import DataError
from fastfcn.utils.sizes import IGNORE_INDEX, Size

Overlap = Literal["order", "area"]
Crowd = Literal["class", "ignore"]


@dataclass(frozen=True)
class Rules:
    """How shapes become a mask.

    `ids`: the mask value of each label; `unlabeled`: that of pixels without a shape. `overlap`: "order" paints shapes
    in the order of the export, later over earlier; "area" paints large ones first. Layers come before both. `crowd`:
    what crowd regions, painted below all other shapes, become: "class" or "ignore".
    """

    ids: Mapping[str, int]
    unlabeled: int
    overlap: Overlap = "order"
    crowd: Crowd = "class"


@dataclass
class Painted:
    """A mask, uint8 (H, W), and what was painted.

    `objects` per label, `without_area` per kind of shape, `empty` shapes that cover the center of no pixel, and
    `overlapping` pixels of which a shape took the class of another one.
    """

    mask: np.ndarray
    objects: Counter[str] = field(default_factory=Counter)
    without_area: Counter[str] = field(default_factory=Counter)
    empty: int = 0
    overlapping: int = 0


def paint(shapes: Iterable[Shape], size: Size, rules: Rules) -> Painted:
    """Paint `shapes` on an image of `size` (height, width). Raises DataError for a class that is not in the rules."""
    result = Painted(np.full(size, rules.unlabeled, np.uint8))
    painted = np.zeros(size, bool)
    for shape in _in_order(shapes, rules, result):
        region = shape.region or EMPTY
        if shape.label not in rules.ids:
            raise DataError(f"the export does not list the class {shape.label!r}")
        value = IGNORE_INDEX if shape.crowd and rules.crowd == "ignore" else rules.ids[shape.label]
        rows, columns = _window(region)
        below, known = result.mask[rows, columns], painted[rows, columns]
        result.overlapping += int(np.count_nonzero(region.mask & known & (below != value)))
        below[region.mask] = value
        known |= region.mask
        result.objects[shape.label] += 1
    return result


def _in_order(shapes: Iterable[Shape], rules: Rules, result: Painted) -> list[Shape]:
    """The shapes with pixels, in the order in which they are painted; the others are counted."""
    kept: list[tuple[tuple[bool, int, int], Shape]] = []
    for shape in shapes:
        if shape.region is None:
            result.without_area[shape.kind] += 1
            continue
        region = trimmed(shape.region)
        if not region.mask.size:
            result.empty += 1
            continue
        area = -region.area if rules.overlap == "area" else 0
        kept.append(((not shape.crowd, shape.layer, area), shape._replace(region=region)))
    kept.sort(key=lambda entry: entry[0])  # stable
    return [shape for _, shape in kept]


def trimmed(region: Region) -> Region:
    """The region without empty rows and columns around it, so that many regions of an image fit into memory."""
    rows, columns = (np.flatnonzero(region.mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return EMPTY
    mask = region.mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    mask = mask if mask.shape == region.mask.shape else mask.copy()  # does not keep the large one
    return Region(region.top + int(rows[0]), region.left + int(columns[0]), mask)


def _window(region: Region) -> tuple[slice, slice]:
    height, width = region.mask.shape
    return slice(region.top, region.top + height), slice(region.left, region.left + width)
