"""Bootstrap confidence intervals of IoU over the images of a split, computed in one streaming pass."""

import warnings
from dataclasses import dataclass

import numpy as np

REPLICATES, LEVEL = 1000, 0.95


@dataclass(frozen=True)
class Intervals:
    """Bias-corrected percentile intervals in percent (0-100), nan where undefined.

    `iou`: the IoU of each class; `low`, `high`: its bounds; `miou`: (low, high); `replicates`: IoU of each bootstrap
    replicate, (replicates, classes), kept so that two networks can be compared replicate by replicate.
    """

    iou: np.ndarray
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
        self.totals = np.zeros((3, classes), np.int64)  # the same sums over the images themselves
        self.image_counts = np.zeros(classes, np.int64)  # images whose labels contain the class
        self._rng = np.random.default_rng([seed, images])
        self._remaining = np.full(replicates, images, np.int64)
        self._next = 0

    def update(self, index: int, counts: np.ndarray) -> None:
        """Add the confusion matrix (true class, predicted class) of image `index`; indices must increase."""
        times = self._draw(index)
        correct = counts.diagonal()
        for index_of_sum, values in enumerate((correct, counts.sum(0) + counts.sum(1) - correct, counts.sum(1))):
            self.sums[index_of_sum] += np.outer(times, values)
            self.totals[index_of_sum] += values
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

        A replicate without any labeled pixel of a class is left out for that class, and counts with the class's IoU in
        its mIoU: a mean over fewer classes would be another quantity, and far too high if rare classes are the worst.
        """
        with np.errstate(invalid="ignore"):
            replicates, iou = 100.0 * self.sums[0] / self.sums[1], 100.0 * self.totals[0] / self.totals[1]
        replicates[(self.sums[2] == 0) & (self.image_counts > 0)] = np.nan
        low, high = np.clip(corrected_percentiles(replicates, iou, level), 0, 100)
        miou_bounds = np.clip(corrected_percentiles(*_means(replicates, iou), level), 0, 100)
        rare = self.image_counts < 2
        low[rare], high[rare] = np.nan, np.nan
        miou = (float(miou_bounds[0]), float(miou_bounds[1])) if self.images > 1 else (float("nan"), float("nan"))
        return Intervals(iou, low, high, miou, replicates)


def _means(replicates: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean over classes of each replicate, with the value itself where a replicate has none, and of the values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no class is labeled
        return np.nanmean(np.where(np.isnan(replicates), values, replicates), 1), np.asarray(np.nanmean(values))


def corrected_percentiles(replicates: np.ndarray, values: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """The two bounds that contain `level` of the replicates (first axis), ignoring nan, corrected for their bias.

    The bias is the median of the replicates minus the value; without it, the value is always between the bounds.
    """
    tail = 50 * (1 - level)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all-nan columns: classes that no replicate contains
        low, middle, high = np.nanpercentile(replicates, [tail, 50, 100 - tail], axis=0)
    return np.stack([low, high]) - (middle - values)


def paired_difference(first: Intervals, second: Intervals) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Bounds of `first` minus `second`: low and high by class (IoU), and (low, high) of mIoU, in points.

    Both networks must have been evaluated on the same images. Replicates are paired, so variation that both networks
    share (images that are hard for both) cancels.
    """
    replicates, values = first.replicates - second.replicates, first.iou - second.iou
    low, high = corrected_percentiles(replicates, values)
    miou = corrected_percentiles(*_differing_means(first, second))
    undefined = np.isnan(first.low) | np.isnan(second.low)
    low[undefined], high[undefined] = np.nan, np.nan
    return low, high, (float(miou[0]), float(miou[1]))


def _differing_means(first: Intervals, second: Intervals) -> tuple[np.ndarray, np.ndarray]:
    """The differences of mIoU by replicate, and of the mIoU."""
    (ours, our_mean), (theirs, their_mean) = (_means(run.replicates, run.iou) for run in (first, second))
    return ours - theirs, our_mean - their_mean
