"""Boundary IoU against masks that are eroded pixel by pixel, class by class."""

import numpy as np
import pytest

from fastfcn.evaluation.analysis.boundary import BoundaryCounts, distance, inside

CLASSES = 3


def blocks(seed: int, size: tuple[int, int] = (37, 52), classes: int = CLASSES) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, classes, (5, 6), dtype=np.uint8)
    rows, columns = (np.linspace(0, len(small) - 0.01, size[0]).astype(int), np.linspace(0, 5.99, size[1]).astype(int))
    return small[rows][:, columns]


def boundary_by_hand(mask: np.ndarray, reach: int) -> np.ndarray:
    """The mask without what `reach` erosions by a 3 x 3 square leave; outside the image there is nothing (the paper's
    reference code pads with zeros)."""
    left = mask.copy()
    for _ in range(reach):
        before, left = left, left.copy()
        for y in range(mask.shape[0]):
            for x in range(mask.shape[1]):
                around = before[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
                left[y, x] = around.size == 9 and around.all()
    return mask & ~left


def test_the_distance_is_two_percent_of_the_diagonal():
    assert distance((1024, 2048)) == 46
    assert distance((360, 480)) == 12
    assert distance((8, 8)) == 1


@pytest.mark.parametrize("reach", [1, 2, 3])
def test_inside_is_erosion_of_all_classes_at_once(reach):
    label = blocks(0)
    kept = inside(label, reach)
    for each in range(CLASSES):
        mask = label == each
        np.testing.assert_array_equal(mask & ~kept, boundary_by_hand(mask, reach))


def test_an_image_smaller_than_the_square_is_all_boundary():
    assert not inside(np.zeros((3, 9), np.uint8), 2).any()


def test_boundary_iou_by_hand_over_two_images():
    counts = BoundaryCounts(CLASSES)
    both, union = np.zeros(CLASSES), np.zeros(CLASSES)
    for seed in (1, 2):
        label, prediction = blocks(seed), np.roll(blocks(seed), 1, axis=1)
        prediction[20:30, 20:40] = 1
        label[:6] = 255
        counts.update(prediction, label)
        reach = distance(label.shape)
        assert reach == 1
        for each in range(CLASSES):
            true = boundary_by_hand(label == each, reach)
            found = boundary_by_hand((prediction == each) & (label != 255), reach)
            both[each] += (true & found).sum()
            union[each] += (true | found).sum()
    np.testing.assert_allclose(counts.iou(), 100 * both / union)
    assert (counts.iou() < 90).all()


def test_a_right_prediction_has_100_and_an_absent_class_none():
    counts = BoundaryCounts(CLASSES)
    label = np.minimum(blocks(3), 1)
    counts.update(label, label)
    np.testing.assert_array_equal(counts.iou(), [100, 100, np.nan])
