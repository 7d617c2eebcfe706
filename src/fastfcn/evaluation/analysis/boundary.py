"""How well the edges are drawn: Boundary IoU.

Cheng, Girshick, Dollár, Berg, Kirillov: Boundary IoU, 2021 (equation 3; d = 2 % of the image's diagonal).
"""

import math
from collections.abc import Callable

import numpy as np

from fastfcn.utils.types import IGNORE_INDEX

SHARE = 0.02  # of the diagonal: how far from its edge a pixel still belongs to a class's boundary


def distance(size: tuple[int, int], share: float = SHARE) -> int:
    """`share` of the diagonal of (height, width) in whole pixels, at least 1."""
    return max(1, round(share * math.hypot(*size)))


def inside(label: np.ndarray, reach: int) -> np.ndarray:
    """Where (bool, (H, W)) the square of `reach` pixels to each side lies in the image and holds one class.

    That is the erosion of every class's mask at once, with nothing outside the image: a pixel stays in the mask of its
    class if all of its square has that class, whichever it is.
    """
    height, width = label.shape
    length = 2 * reach + 1
    result = np.zeros(label.shape, bool)
    if min(height, width) < length:
        return result
    least, most = (_windows(_windows(label, length, each).T, length, each).T for each in (np.minimum, np.maximum))
    result[reach : height - reach, reach : width - reach] = least == most
    return result


def _windows(values: np.ndarray, length: int, choose: Callable[..., np.ndarray]) -> np.ndarray:
    """The least or greatest of every `length` rows in a row; windows double, so it takes log2(length) passes."""
    width = 1
    while 2 * width <= length:
        values = choose(values[:-width], values[width:])
        width *= 2
    rest = length - width
    return choose(values[:-rest], values[rest:]) if rest else values


class BoundaryCounts:
    """Pixels of each class in both boundaries, in the true one, and in the predicted one, summed over images."""

    def __init__(self, classes: int):
        self.counts = np.zeros((3, classes), np.int64)

    def update(self, prediction: np.ndarray, label: np.ndarray) -> None:
        """Add class maps (H, W), uint8; where the label is 255, nothing is true and nothing predicted."""
        classes = self.counts.shape[1]
        prediction = np.where(label == IGNORE_INDEX, IGNORE_INDEX, prediction).astype(np.uint8)
        reach = distance(label.shape)
        true, found = ~inside(label, reach), ~inside(prediction, reach)
        both = true & found & (label == prediction)
        for row, (labels, mask) in enumerate(((label, both), (label, true), (prediction, found))):
            self.counts[row] += np.bincount(labels[mask], minlength=256)[:classes]

    def iou(self) -> np.ndarray:
        """Boundary IoU of each class in percent, nan where neither labels nor predictions hold it."""
        both, true, found = self.counts
        with np.errstate(invalid="ignore"):
            return 100.0 * both / (true + found - both)
