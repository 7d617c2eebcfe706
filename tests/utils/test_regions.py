"""Connected regions against a flood fill."""

import numpy as np
import pytest

from fastfcn.utils.regions import connected_regions


def flood_fill(label: np.ndarray) -> np.ndarray:
    """Regions by flood fill, numbered in the order of their first pixel."""
    result, number = np.full(label.shape, -1), 0
    for start in np.ndindex(label.shape):
        if result[start] >= 0:
            continue
        todo = [start]
        while todo:
            y, x = todo.pop()
            inside = 0 <= y < label.shape[0] and 0 <= x < label.shape[1]
            if not inside or result[y, x] >= 0 or label[y, x] != label[start]:
                continue
            result[y, x] = number
            todo += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        number += 1
    return result


def snake() -> np.ndarray:
    """One region that winds through the image, which needs many merges."""
    label = np.zeros((21, 16), np.uint8)
    label[1::2] = 1
    label[1::4, -1] = label[3::4, 0] = 0
    return label


@pytest.mark.parametrize(
    "label",
    [
        np.random.default_rng(0).integers(0, 2, (30, 41), np.uint8),
        np.random.default_rng(1).integers(0, 5, (25, 25), np.uint8),
        snake(),
        snake().T.copy(),
        np.zeros((1, 7), np.uint8),
    ],
    ids=["two", "five", "snake", "upright", "row"],
)
def test_regions_match_a_flood_fill(label):
    actual, expected = connected_regions(label), flood_fill(label)
    pairs = set(zip(actual.ravel().tolist(), expected.ravel().tolist(), strict=True))
    assert len(pairs) == expected.max() + 1 == len(np.unique(actual))
