"""Wrong pixels by type: misplaced boundaries, missed regions, and confusions between classes."""

import numpy as np

from fastfcn.evaluation.analysis.boundary import boundary_pixels, interior
from fastfcn.utils.regions import connected_regions
from fastfcn.utils.sizes import IGNORE_INDEX

CORRECT, BOUNDARY, CONFUSION, MISSED = range(4)
ERROR_TYPES = ("boundary", "confusion", "missed")
BOUNDARY_TOLERANCE = 0.005  # distance to a true boundary for a boundary error, as a fraction of the image's diagonal
MISSED_BELOW = 0.1  # a region is missed if a smaller fraction of its pixels is correct


def error_types(prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Error type of each pixel, uint8 (H, W): CORRECT, BOUNDARY, CONFUSION or MISSED; unlabeled pixels are CORRECT.

    `prediction`, `label`: class indices (H, W). MISSED: less than a tenth of the true region (connected pixels of one
    class) was found. BOUNDARY: other wrong pixels within 0.5 % of the image's diagonal of a true boundary. CONFUSION:
    all others.
    """
    wrong = (prediction != label) & (label != IGNORE_INDEX)
    region = connected_regions(label)
    correct = np.bincount(region[prediction == label], minlength=region.max() + 1)
    missed = (correct < MISSED_BELOW * np.bincount(region.ravel()))[region]
    radius = boundary_pixels(label.shape, BOUNDARY_TOLERANCE)
    boundary = ~interior(np.pad(label, radius, mode="edge"), radius)[radius:-radius, radius:-radius]
    types = np.where(missed, MISSED, np.where(boundary, BOUNDARY, CONFUSION))
    return np.where(wrong, types, CORRECT).astype(np.uint8)


def count_by_class(types: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """Wrong pixels by true class and error type, int64 (classes, 3)."""
    wrong = types != CORRECT
    pairs = label[wrong].astype(np.int64) * len(ERROR_TYPES) + types[wrong] - 1
    return np.bincount(pairs, minlength=classes * len(ERROR_TYPES)).reshape(classes, len(ERROR_TYPES))
