"""Boundary IoU, a metric for the quality of object edges.

Cheng, Girshick, Dollár, Berg, Kirillov: Boundary IoU, 2021 (equation 3; d = 2 % of the image's diagonal).
"""

import math
from collections.abc import Callable

import numpy as np

from fastfcn.utils.sizes import IGNORE_INDEX

BOUNDARY_WIDTH = 0.02  # as a fraction of the image's diagonal


def boundary_pixels(size: tuple[int, int], fraction: float = BOUNDARY_WIDTH) -> int:
    """Width of the boundary in pixels, at least 1: `fraction` of the diagonal of (height, width)."""
    return max(1, round(fraction * math.hypot(*size)))


def interior(label: np.ndarray, radius: int) -> np.ndarray:
    """Mask (bool, (H, W)) of pixels whose square neighborhood lies in the image and contains a single class.

    `radius`: pixels to each side of the center. This is the erosion of every class's mask at once, with nothing outside
    the image: a pixel stays in its class's mask if its whole neighborhood has that class, whichever it is.
    """
    height, width = label.shape
    length = 2 * radius + 1
    result = np.zeros(label.shape, bool)
    if min(height, width) < length:
        return result
    low, high = (
        _running(_running(label, length, extreme).T, length, extreme).T for extreme in (np.minimum, np.maximum)
    )
    result[radius : height - radius, radius : width - radius] = low == high
    return result


def _running(values: np.ndarray, length: int, extreme: Callable[..., np.ndarray]) -> np.ndarray:
    """Running minimum or maximum over `length` rows. The window doubles each pass: log2(length) passes."""
    width = 1
    while 2 * width <= length:
        values = extreme(values[:-width], values[width:])
        width *= 2
    rest = length - width
    return extreme(values[:-rest], values[rest:]) if rest else values


class BoundaryCounts:
    """Pixels of each class in both boundaries, in the true one, and in the predicted one, summed over images."""

    def __init__(self, classes: int):
        self.counts = np.zeros((3, classes), np.int64)

    def update(self, prediction: np.ndarray, label: np.ndarray) -> None:
        """Add one image: class indices (H, W), uint8. Pixels labeled 255 count neither as true nor as predicted."""
        classes = self.counts.shape[1]
        prediction = np.where(label == IGNORE_INDEX, IGNORE_INDEX, prediction).astype(np.uint8)
        radius = boundary_pixels(label.shape)
        true, predicted = ~interior(label, radius), ~interior(prediction, radius)
        both = true & predicted & (label == prediction)
        for row, (labels, mask) in enumerate(((label, both), (label, true), (prediction, predicted))):
            self.counts[row] += np.bincount(labels[mask], minlength=256)[:classes]

    def iou(self) -> np.ndarray:
        """Boundary IoU of each class in percent, nan where neither labels nor predictions contain it."""
        both, true, predicted = self.counts
        with np.errstate(invalid="ignore"):
            return 100.0 * both / (true + predicted - both)
