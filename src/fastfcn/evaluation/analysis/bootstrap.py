"""How far a score would move if other images had been drawn: the bootstrap over images, streamed."""

import warnings
from dataclasses import dataclass

import numpy as np

REPLICATES, LEVEL = 1000, 0.95


@dataclass(frozen=True)
class Intervals:
    """Percentile intervals in percent (0-100), nan where there is none.

    `low`, `high`: IoU of each class; `miou`: (low, high); `replicates`: IoU of each resampling, (replicates, classes),
    so that two runs on the same images can be compared resampling by resampling.
    """

    low: np.ndarray
    high: np.ndarray
    miou: tuple[float, float]
    replicates: np.ndarray


class Resampling:
    """Bootstrap over images (Efron 1979): each replicate draws as many images as there are, with replacement.

    How often a replicate draws image i is Binomial(left, 1 / (images - i)) given the earlier ones, which together is
    the multinomial draw. So one image is held at a time, and memory depends on replicates and classes alone. The draws
    depend on `seed` and the number of images only: two networks measured on the same images share them.
    """

    def __init__(self, images: int, classes: int, replicates: int = REPLICATES, seed: int = 0):
        self.images = images
        self.sums = np.zeros((3, replicates, classes), np.int64)  # intersections, unions, labelled pixels
        self.holding = np.zeros(classes, np.int64)  # images in whose labels a class is
        self._chance = np.random.default_rng([seed, images])
        self._left = np.full(replicates, images, np.int64)
        self._next = 0

    def update(self, index: int, counts: np.ndarray) -> None:
        """Add the confusion matrix (true class, predicted class) of image `index`; indices must rise."""
        times = self._draws(index)
        right = counts.diagonal()
        self.sums[0] += np.outer(times, right)
        self.sums[1] += np.outer(times, counts.sum(0) + counts.sum(1) - right)
        self.sums[2] += np.outer(times, counts.sum(1))
        self.holding += counts.sum(1) > 0

    def _draws(self, index: int) -> np.ndarray:
        """How often each replicate draws image `index`; other processes' images in between are passed over."""
        assert index >= self._next, "images come in rising order"
        while True:
            times = self._chance.binomial(self._left, 1 / (self.images - self._next))
            self._left -= times
            self._next += 1
            if self._next > index:
                return times

    def intervals(self, level: float = LEVEL) -> Intervals:
        """Intervals that hold `level` of the replicates; none for a class that fewer than two images hold.

        A replicate without any true pixel of a class says nothing of that class, and is left out for it.
        """
        with np.errstate(invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of classes that no replicate holds
            replicates = 100.0 * self.sums[0] / self.sums[1]
            replicates[(self.sums[2] == 0) & (self.holding > 0)] = np.nan
            low, high = percentiles(replicates, level)
            mean = np.nanmean(replicates, 1)
            whole = percentiles(mean, level)
        few = self.holding < 2
        low[few], high[few] = np.nan, np.nan
        miou = (float(whole[0]), float(whole[1])) if self.images > 1 else (float("nan"), float("nan"))
        return Intervals(low, high, miou, replicates)


def percentiles(replicates: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """The two bounds between which `level` of the replicates (the first axis) lie; nan is left out."""
    rest = 50 * (1 - level)
    return np.nanpercentile(replicates, [rest, 100 - rest], axis=0)


def paired_difference(mine: Intervals, theirs: Intervals) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Bounds of the difference in IoU of each class, and of mIoU, of two networks on the same images.

    Replicates are paired, so what images have in common (some are hard for both) drops out.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        low, high = percentiles(mine.replicates - theirs.replicates)
        means = np.nanmean(mine.replicates, 1) - np.nanmean(theirs.replicates, 1)
        whole = percentiles(means)
    none = np.isnan(mine.low) | np.isnan(theirs.low)
    low[none], high[none] = np.nan, np.nan
    return low, high, (float(whole[0]), float(whole[1]))
