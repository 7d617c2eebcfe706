"""Boundary IoU against masks eroded pixel by pixel, class by class."""

import numpy as np
import pytest

from fastfcn.evaluation.analysis.boundary import BoundaryCounts, boundary_pixels, interior

CLASSES = 3


def blocks(seed: int, size: tuple[int, int] = (37, 52), classes: int = CLASSES) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, classes, (5, 6), dtype=np.uint8)
    rows, columns = (np.linspace(0, len(small) - 0.01, size[0]).astype(int), np.linspace(0, 5.99, size[1]).astype(int))
    return small[rows][:, columns]


def boundary_by_hand(mask: np.ndarray, radius: int) -> np.ndarray:
    """The mask without what `radius` erosions by a 3 x 3 square leave; outside the image there is nothing (the paper's
    reference code pads with zeros)."""
    eroded = mask.copy()
    for _ in range(radius):
        before, eroded = eroded, eroded.copy()
        for y in range(mask.shape[0]):
            for x in range(mask.shape[1]):
                window = before[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
                eroded[y, x] = window.size == 9 and window.all()
    return mask & ~eroded


def test_the_boundary_width_is_two_percent_of_the_diagonal():
    assert boundary_pixels((1024, 2048)) == 46
    assert boundary_pixels((360, 480)) == 12
    assert boundary_pixels((8, 8)) == 1


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_interior_is_the_erosion_of_all_classes_at_once(radius):
    label = blocks(0)
    inner = interior(label, radius)
    for index in range(CLASSES):
        mask = label == index
        np.testing.assert_array_equal(mask & ~inner, boundary_by_hand(mask, radius))


def test_an_image_smaller_than_the_square_is_all_boundary():
    assert not interior(np.zeros((3, 9), np.uint8), 2).any()


def test_boundary_iou_by_hand_over_two_images():
    counts = BoundaryCounts(CLASSES)
    both, union = np.zeros(CLASSES), np.zeros(CLASSES)
    for seed in (1, 2):
        label, prediction = blocks(seed), np.roll(blocks(seed), 1, axis=1)
        prediction[20:30, 20:40] = 1
        label[:6] = 255
        counts.update(prediction, label)
        radius = boundary_pixels(label.shape)
        assert radius == 1
        for index in range(CLASSES):
            true = boundary_by_hand(label == index, radius)
            predicted = boundary_by_hand((prediction == index) & (label != 255), radius)
            both[index] += (true & predicted).sum()
            union[index] += (true | predicted).sum()
    np.testing.assert_allclose(counts.iou(), 100 * both / union)
    assert (counts.iou() < 90).all()


def test_a_correct_prediction_scores_100_and_an_absent_class_nan():
    counts = BoundaryCounts(CLASSES)
    label = np.minimum(blocks(3), 1)
    counts.update(label, label)
    np.testing.assert_array_equal(counts.iou(), [100, 100, np.nan])
