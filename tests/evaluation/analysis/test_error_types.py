"""Error types, by hand and by their rules."""

import numpy as np

from fastfcn.evaluation.analysis.error_types import (
    BOUNDARY,
    CONFUSION,
    CORRECT,
    MISSED,
    count_by_class,
    error_types,
)


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
