"""Bootstrap confidence intervals of IoU over the images of a split, computed in one streaming pass."""

import warnings
from dataclasses import dataclass

import numpy as np

REPLICATES, LEVEL = 1000, 0.95


@dataclass(frozen=True)
class Intervals:
    """Percentile intervals in percent (0-100), nan where undefined.

    `low`, `high`: bounds of each class's IoU; `miou`: (low, high); `replicates`: IoU of each bootstrap replicate,
    (replicates, classes), kept so that two networks can be compared replicate by replicate.
    """

    low: np.ndarray
    high: np.ndarray
    miou: tuple[float, float]
    replicates: np.ndarray


class Bootstrap:
    """Bootstrap over images (Efron 1979): each replicate draws as many images as there are, with replacement.

    The number of times a replicate draws image i is Binomial(remaining draws, 1 / (images - i)) given the earlier
    images, which together is the multinomial draw. Images can therefore be processed one at a time, and memory depends
    on replicates and classes only. The draws depend only on `seed` and the number of images, so two networks evaluated
    on the same images share them.
    """

    def __init__(self, images: int, classes: int, replicates: int = REPLICATES, seed: int = 0):
        self.images = images
        self.sums = np.zeros((3, replicates, classes), np.int64)  # intersections, unions, labeled pixels
        self.image_counts = np.zeros(classes, np.int64)  # images whose labels contain the class
        self._rng = np.random.default_rng([seed, images])
        self._remaining = np.full(replicates, images, np.int64)
        self._next = 0

    def update(self, index: int, counts: np.ndarray) -> None:
        """Add the confusion matrix (true class, predicted class) of image `index`; indices must increase."""
        times = self._draw(index)
        correct = counts.diagonal()
        self.sums[0] += np.outer(times, correct)
        self.sums[1] += np.outer(times, counts.sum(0) + counts.sum(1) - correct)
        self.sums[2] += np.outer(times, counts.sum(1))
        self.image_counts += counts.sum(1) > 0

    def _draw(self, index: int) -> np.ndarray:
        """How often each replicate draws image `index`. Images of other processes in between are skipped."""
        assert index >= self._next, "images must come in increasing order"
        while True:
            times = self._rng.binomial(self._remaining, 1 / (self.images - self._next))
            self._remaining -= times
            self._next += 1
            if self._next > index:
                return times

    def intervals(self, level: float = LEVEL) -> Intervals:
        """Intervals that contain `level` (0-1) of the replicates; nan for classes found in fewer than two images.

        A replicate without any labeled pixel of a class is left out for that class.
        """
        with np.errstate(invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # all-nan columns: classes that no replicate contains
            replicates = 100.0 * self.sums[0] / self.sums[1]
            replicates[(self.sums[2] == 0) & (self.image_counts > 0)] = np.nan
            low, high = percentiles(replicates, level)
            miou_bounds = percentiles(np.nanmean(replicates, 1), level)
        rare = self.image_counts < 2
        low[rare], high[rare] = np.nan, np.nan
        miou = (float(miou_bounds[0]), float(miou_bounds[1])) if self.images > 1 else (float("nan"), float("nan"))
        return Intervals(low, high, miou, replicates)


def percentiles(replicates: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """The two bounds that contain `level` of the replicates (first axis), ignoring nan."""
    tail = 50 * (1 - level)
    return np.nanpercentile(replicates, [tail, 100 - tail], axis=0)


def paired_difference(first: Intervals, second: Intervals) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Bounds of `first` minus `second`: low and high by class (IoU), and (low, high) of mIoU, in points.

    Both networks must have been evaluated on the same images. Replicates are paired, so variation that both networks
    share (images that are hard for both) cancels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        low, high = percentiles(first.replicates - second.replicates)
        means = np.nanmean(first.replicates, 1) - np.nanmean(second.replicates, 1)
        miou = percentiles(means)
    undefined = np.isnan(first.low) | np.isnan(second.low)
    low[undefined], high[undefined] = np.nan, np.nan
    return low, high, (float(miou[0]), float(miou[1]))
