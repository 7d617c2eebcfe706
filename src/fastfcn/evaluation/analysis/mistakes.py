"""Wrong pixels by what went wrong: an edge drawn beside its place, a region missed, or one class taken for another."""

import numpy as np

from fastfcn.evaluation.analysis.boundary import distance, inside
from fastfcn.utils.types import IGNORE_INDEX

RIGHT, BOUNDARY, CONFUSION, MISSED = range(4)
KINDS = ("boundary", "confusion", "missed")
EDGE = 0.005  # of the image's diagonal: how far an edge may be off before it is no matter of drawing any more
FOUND = 0.1  # of a region's pixels: with fewer right, the region is missed


def mistakes(prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
    """What went wrong in each pixel, uint8 (H, W): RIGHT, BOUNDARY, CONFUSION or MISSED; unlabelled pixels are RIGHT.

    MISSED: of the true region (connected pixels of one class) less than a tenth was found. BOUNDARY: of the others,
    those with a true edge within 0.5 % of the image's diagonal. CONFUSION: the rest.
    """
    wrong = (prediction != label) & (label != IGNORE_INDEX)
    region = regions(label)
    found = np.bincount(region[prediction == label], minlength=region.max() + 1)
    missed = (found < FOUND * np.bincount(region.ravel()))[region]
    reach = distance(label.shape, EDGE)
    edge = ~inside(np.pad(label, reach, mode="edge"), reach)[reach:-reach, reach:-reach]
    kind = np.where(missed, MISSED, np.where(edge, BOUNDARY, CONFUSION))
    return np.where(wrong, kind, RIGHT).astype(np.uint8)


def regions(label: np.ndarray) -> np.ndarray:
    """Number of the region of each pixel, int64 (H, W): pixels of one class that touch along a side.

    Numbers are those of their first run of pixels in a row, so there are gaps. Runs that touch are joined by letting
    each group take the least number among its neighbours until nothing changes (Shiloach and Vishkin 1982).
    """
    begins = np.ones(label.shape, bool)
    begins[:, 1:] = label[:, 1:] != label[:, :-1]
    runs = np.cumsum(begins.ravel()).reshape(label.shape) - 1
    touching = (label[1:] == label[:-1]) & (begins[1:] | begins[:-1])
    upper, lower = runs[:-1][touching], runs[1:][touching]
    group = np.arange(runs[-1, -1] + 1)
    while (group[upper] != group[lower]).any():
        least = np.minimum(group[upper], group[lower])
        np.minimum.at(group, group[upper], least)
        np.minimum.at(group, group[lower], least)
        while (group[group] != group).any():
            group = group[group]
    return group[runs]


def count_by_class(kinds: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """Wrong pixels of each true class by kind, int64 (classes, 3)."""
    wrong = kinds != RIGHT
    pairs = label[wrong].astype(np.int64) * len(KINDS) + kinds[wrong] - 1
    return np.bincount(pairs, minlength=classes * len(KINDS)).reshape(classes, len(KINDS))
