"""Make blurred and lossy masks sharp: give each pixel of a blurred edge the class that it was meant to be."""

from typing import NamedTuple

import numpy as np

from fastfcn.checking.masks import flat

TOLERANCE = 24  # maximum difference between a pixel of a lossy mask and the valid value it stands for
REACH = 4  # pixels from an edge pixel to the areas that it may be a blend of


class Sharpened(NamedTuple):
    """The valid value of each pixel, as `indices` (H, W) into the valid values.

    `stored` (H, W): the same for the mask as it was, -1 where it has no valid value (up to TOLERANCE, if the mask is
    lossy); `doubtful` (H, W): changed pixels that no blurred edge explains.
    """

    indices: np.ndarray
    stored: np.ndarray
    doubtful: np.ndarray


def deblur(pixels: np.ndarray, valid: np.ndarray, lossy: bool = False) -> Sharpened:
    """Find the value among `valid` (values, channels) that each of `pixels` (H, W, channels) was meant to be.

    Flat areas keep their value. A pixel between two areas takes one of their values: with two valid values the nearer
    one; with more, from the outside in, the value of the neighbor that is closest to its own, so that a pixel between
    classes 0 and 4 never becomes the 2 that it contains. A pixel that is not between two areas, such as that of a thin
    line, keeps the nearest value. It is doubtful if that is not its own, and so is a flat area without a valid value.
    """
    pixels, valid = pixels.astype(np.int16), valid.astype(np.int16)
    nearest, distance = _nearest(pixels, valid)
    spacing = np.abs(valid[:, None] - valid[None]).max(2) + np.eye(len(valid), dtype=np.int16) * 999
    tolerance = min(TOLERANCE, (int(spacing.min()) - 1) // 2)
    level = _flat(pixels)
    certain = (level & (distance == 0)) if not lossy else distance <= tolerance
    if lossy:
        certain &= level if spacing.min() <= 2 else flat(nearest)
    anchors = certain if spacing.min() <= 2 else certain | (distance <= tolerance)
    between = _between(pixels, anchors, tolerance if lossy else 0)
    if len(valid) == 2:
        indices = nearest
    else:
        indices = _filled(np.where(certain, nearest, -1), nearest, pixels, valid)
        keeps_nearest = ~between if lossy else ~between | (distance == 0) & _extreme(pixels)
        indices = np.where(keeps_nearest & ~certain, nearest, indices)
    error = np.abs(pixels - valid[indices]).max(2)
    doubtful = ~certain & (
        ~between & (error > (TOLERANCE if lossy else tolerance)) | level & (error > TOLERANCE * lossy)
    )
    stored = np.where(distance <= (tolerance if lossy else 0), nearest, -1)
    return Sharpened(indices, stored, doubtful)


def _flat(pixels: np.ndarray) -> np.ndarray:
    return np.logical_and.reduce([flat(channel) for channel in np.moveaxis(pixels, 2, 0)])


def _nearest(pixels: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the nearest valid value, and the largest difference per channel to it."""
    best = np.zeros(pixels.shape[:2], np.int16)
    distance = np.full(pixels.shape[:2], 32767, np.int16)
    for index, value in enumerate(valid):
        away = np.abs(pixels - value).max(2)
        closer = away < distance
        best[closer], distance[closer] = index, away[closer]
    return best, distance


def _between(pixels: np.ndarray, anchors: np.ndarray, tolerance: int) -> np.ndarray:
    """Which pixels have anchors within REACH whose values enclose their own, in all channels; bool (H, W)."""
    low = _extended(np.where(anchors[..., None], pixels, 999), np.minimum, 999)
    high = _extended(np.where(anchors[..., None], pixels, -999), np.maximum, -999)
    return np.all((low - tolerance <= pixels) & (pixels <= high + tolerance), axis=2)


def _extended(values: np.ndarray, best: np.ufunc, outside: int) -> np.ndarray:
    """The minimum or maximum within REACH pixels, for each pixel of (H, W, channels)."""
    height, width = values.shape[:2]
    padded = np.pad(values, ((REACH, REACH), (REACH, REACH), (0, 0)), constant_values=outside)
    rows = best.reduce([padded[shift : shift + height] for shift in range(2 * REACH + 1)])
    return best.reduce([rows[:, shift : shift + width] for shift in range(2 * REACH + 1)])


def _extreme(pixels: np.ndarray) -> np.ndarray:
    """Which pixels are not less, or not more, than all four neighbors, as those of a ridge; bool (H, W)."""
    padded = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="edge")
    around = np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
    return np.all((around <= pixels).all(0) | (around >= pixels).all(0), axis=2)


def _filled(indices: np.ndarray, nearest: np.ndarray, pixels: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Fill the undecided pixels (-1) from their neighbors, one ring at a time."""
    while (indices < 0).any() and (indices >= 0).any():
        padded = np.pad(indices, 1, constant_values=-1)
        around = np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
        rows, columns = np.nonzero((indices < 0) & (around >= 0).any(0))
        choices = around[:, rows, columns]
        away = np.abs(pixels[rows, columns][None] - valid[choices]).max(2) + (choices < 0) * 1000
        indices[rows, columns] = np.take_along_axis(choices, away.argmin(0)[None], 0)[0]
    return np.where(indices < 0, nearest, indices)
