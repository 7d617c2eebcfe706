"""Connected regions of a label."""

import numpy as np


def connected_regions(label: np.ndarray) -> np.ndarray:
    """Region number of each pixel, int64 (H, W): connected components of one class, with 4-connectivity.

    A region's number is the number of its first horizontal run of pixels, so numbers have gaps. Touching runs are
    joined by giving each group the smallest number among its neighbors until nothing changes (Shiloach and Vishkin
    1982).
    """
    starts = np.ones(label.shape, bool)
    starts[:, 1:] = label[:, 1:] != label[:, :-1]
    runs = np.cumsum(starts.ravel()).reshape(label.shape) - 1
    touching = (label[1:] == label[:-1]) & (starts[1:] | starts[:-1])
    upper, lower = runs[:-1][touching], runs[1:][touching]
    group = np.arange(runs[-1, -1] + 1)
    while (group[upper] != group[lower]).any():
        smallest = np.minimum(group[upper], group[lower])
        np.minimum.at(group, group[upper], smallest)
        np.minimum.at(group, group[lower], smallest)
        while (group[group] != group).any():
            group = group[group]
    return group[runs]
