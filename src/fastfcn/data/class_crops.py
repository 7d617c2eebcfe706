"""Crops around a pixel of a chosen class, so that rare classes are seen more often."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastfcn.data.opencv_resize import Window
from fastfcn.utils.sizes import IGNORE_INDEX, Size


@dataclass(frozen=True)
class ClassCrops:
    """With `probability`, a crop is centered on a pixel of a class of the image.

    Classes are drawn in proportion to (their pixels in the image) ** -`power`: 0 makes all equally likely.
    """

    probability: float
    power: float


def class_window(
    label: np.ndarray, crop: Size, power: float, generator: np.random.Generator, classes: Sequence[int] = ()
) -> Window | None:
    """The part of `label` around a pixel of a class, moved into the image; None if there is no such pixel.

    The class is drawn as `ClassCrops` says, from `classes` or, if there are none, from all classes in the image.
    """
    counts = np.bincount(label.ravel(), minlength=IGNORE_INDEX + 1)[:IGNORE_INDEX]
    present = np.array([index for index in np.flatnonzero(counts) if not classes or index in classes])
    if not len(present):
        return None
    weights = (counts[present] / counts[present].min()) ** -power
    chosen = generator.choice(present, p=weights / weights.sum())
    pixel = np.flatnonzero(label == chosen)[generator.integers(counts[chosen])]
    top, left = (
        min(max(int(center) - side // 2, 0), max(length - side, 0))
        for center, side, length in zip(np.unravel_index(pixel, label.shape), crop, label.shape, strict=True)
    )
    return slice(top, top + crop[0]), slice(left, left + crop[1])
