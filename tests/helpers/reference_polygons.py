"""The COCO API's rule for polygons in plain loops: every step of the boundary, one after the other.

`fastfcn.data.annotations.shapes` computes the same with arrays. Where pycocotools is installed, tests compare both with
it.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np


def fill_polygon(flat: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """The pixels of a polygon x0, y0, x1, y1, ...: bool (H, W)."""
    height, width = size
    corners = [(int(5 * x + 0.5), int(5 * y + 0.5)) for x, y in zip(flat[::2], flat[1::2], strict=True)]
    mask = np.zeros(size, bool)
    for one, other in pairwise([*corners, corners[0]]):
        for (x, y), (next_x, next_y) in pairwise(_steps(one, other)):
            column, rest = divmod(min(x, next_x) - 2, 5)
            if x != next_x and rest == 0 and 0 <= column < width:
                row = (min(y, next_y) + 0.5) / 5 - 0.5
                # Everything below a crossing changes sides.
                mask[int(np.ceil(min(max(row, 0), height))) :, column] ^= True
    return mask


def _steps(one: tuple[int, int], other: tuple[int, int]) -> list[tuple[int, int]]:
    """The cells of the fine grid from one corner to the other, one step along the longer axis at a time."""
    wide = abs(other[0] - one[0]) >= abs(other[1] - one[1])
    axis = 0 if wide else 1
    start, end = sorted((one, other), key=lambda corner: corner[axis])
    length = end[axis] - start[axis]
    if not length:
        return [one]
    across = 1 - axis
    slope = (end[across] - start[across]) / length
    steps = []
    for step in range(length + 1):
        along, side = start[axis] + step, int(start[across] + slope * step + 0.5)
        steps.append((along, side) if wide else (side, along))
    return steps
