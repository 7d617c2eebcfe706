"""Blurred masks made sharp: every pixel gets a real value."""

import numpy as np

from fastfcn.checking.mask_reading import flat

TOLERANCE = 24  # difference up to which a flat pixel is taken for the nearest real value


def settle(pixels: np.ndarray, real: np.ndarray) -> np.ndarray:
    """The place in `real` (values, channels) of the value that each of `pixels` (H, W, channels) stands for.

    Flat areas keep their value; from there, pixel by pixel, the others take that value of their neighbours' which is
    nearest to their own. So a pixel between classes 0 and 4 becomes 0 or 4, never the 2 that it holds.
    """
    pixels, real = pixels.astype(np.int16), real.astype(np.int16)
    nearest, distance = _nearest(pixels, real)
    apart = np.abs(real[:, None] - real[None]).max(2) + np.eye(len(real), dtype=np.int16) * 999
    sure = distance <= min(TOLERANCE, (int(apart.min()) - 1) // 2)
    brightness = pixels.sum(2)
    if len(real) > 1 and pixels.shape[2] == 1 and apart.min() <= 2:
        sure &= flat(brightness)
    else:
        sure &= flat(nearest)
    return _grown(np.where(sure, nearest, -1), nearest, pixels, real)


def _nearest(pixels: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place of the nearest real value, and how far it is in the channel that differs most."""
    best = np.zeros(pixels.shape[:2], np.int16)
    distance = np.full(pixels.shape[:2], 32767, np.int16)
    for place, value in enumerate(real):
        away = np.abs(pixels - value).max(2)
        closer = away < distance
        best[closer], distance[closer] = place, away[closer]
    return best, distance


def _grown(result: np.ndarray, nearest: np.ndarray, pixels: np.ndarray, real: np.ndarray) -> np.ndarray:
    """`result`, in which -1 is open, with the open pixels filled from their neighbours."""
    while (result < 0).any() and (result >= 0).any():
        padded = np.pad(result, 1, constant_values=-1)
        around = np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
        rows, columns = np.nonzero((result < 0) & (around >= 0).any(0))
        choices = around[:, rows, columns]
        away = np.abs(pixels[rows, columns][None] - real[choices]).max(2) + (choices < 0) * 1000
        result[rows, columns] = np.take_along_axis(choices, away.argmin(0)[None], 0)[0]
    return np.where(result < 0, nearest, result)
