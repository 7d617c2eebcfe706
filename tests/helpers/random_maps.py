"""Random segmentation maps from a seed: predictions and labels to score, identical on every machine.

Only PCG64's bits and integer arithmetic are used; NumPy promises to keep both (NEP 19).
"""

from collections.abc import Sequence

import numpy as np

from fastfcn.utils.sizes import IGNORE_INDEX


def draw(
    seed: int,
    classes: int,
    size: tuple[int, int],
    ignored_percent: int,
    absent: Sequence[int],
    absent_in_both: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (prediction, label), both `size`.

    About half of the predictions are correct; `absent` classes do not occur in the labels, nor, if
    `absent_in_both`, in the predictions.
    """
    pixels = size[0] * size[1]
    bits = np.random.PCG64(seed).random_raw(4 * pixels).reshape(4, pixels)
    present = np.setdiff1d(np.arange(classes), absent).astype(np.uint8)
    guessed = present if absent_in_both else np.arange(classes, dtype=np.uint8)
    label = present[bits[0] % len(present)]
    prediction = np.where(bits[1] % 2 == 0, label, guessed[bits[2] % len(guessed)])
    label = np.where(bits[3] % 100 < ignored_percent, np.uint8(IGNORE_INDEX), label)
    return prediction.reshape(size), label.reshape(size)
