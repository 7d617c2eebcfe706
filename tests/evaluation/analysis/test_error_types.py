"""Error types, and connected regions against a flood fill."""

import numpy as np
import pytest

from fastfcn.evaluation.analysis.error_types import (
    BOUNDARY,
    CONFUSION,
    CORRECT,
    MISSED,
    connected_regions,
    count_by_class,
    error_types,
)


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


def test_types_by_hand():
    label = np.zeros((40, 60), np.uint8)
    label[:, 30:] = 1
    label[5:9, 5:9] = 2  # found in one pixel of sixteen
    label[35:] = 255
    prediction = np.minimum(label, 1)
    prediction[5, 5] = 2
    prediction[5:9, 6:9] = prediction[6:9, 5] = 0
    prediction[:, 30] = 0  # an edge one pixel off
    prediction[15:20, 45:50] = 2  # in the middle of class 1
    types = error_types(prediction, label)
    expected = np.full(label.shape, CORRECT, np.uint8)
    expected[:35, 30] = BOUNDARY
    expected[15:20, 45:50] = CONFUSION
    expected[5:9, 5:9] = MISSED
    expected[5, 5] = CORRECT
    np.testing.assert_array_equal(types, expected)
    np.testing.assert_array_equal(count_by_class(types, label, 3), [[0, 0, 0], [35, 25, 0], [0, 0, 15]])


def test_every_wrong_pixel_has_one_type():
    rng = np.random.default_rng(2)
    label, prediction = rng.integers(0, 4, (2, 30, 30), np.uint8)
    label[:5] = 255
    types = error_types(prediction, label)
    np.testing.assert_array_equal(types > 0, (prediction != label) & (label != 255))
    assert count_by_class(types, label, 4).sum() == (types > 0).sum()
