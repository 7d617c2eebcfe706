"""Crops centered on a class: where they are, and how often each class is chosen."""

import numpy as np
import pytest
import torch

from fastfcn.data.class_crops import ClassCrops, class_window
from tests.data.test_transforms import transform

CROP = (8, 12)


@pytest.fixture
def label() -> np.ndarray:
    """Class 0 with 64 pixels of class 1, 4 pixels of class 2, and an ignored corner."""
    label = np.zeros((30, 40), np.uint8)
    label[2:10, 2:10] = 1
    label[20:22, 30:32] = 2
    label[25:, :10] = 255
    return label


def chosen(label: np.ndarray, power: float, draws: int = 600) -> np.ndarray:
    """How often each class was in the middle of a crop that did not touch the edge, or nearest to it."""
    generator, counts = np.random.default_rng(0), np.zeros(3, int)
    for _ in range(draws):
        rows, columns = class_window(label, (1, 1), power, generator) or (slice(0), slice(0))
        counts[label[rows, columns][0, 0]] += 1
    return counts / draws


def test_power_weights_the_classes_of_the_image(label):
    pixels = np.bincount(label.ravel(), minlength=3)[:3].astype(float)
    for power in (0.0, 0.5, 1.0):
        expected = pixels**-power / (pixels**-power).sum()
        assert chosen(label, power) == pytest.approx(expected, abs=0.06)


def test_crops_are_centered_and_stay_inside(label):
    for seed in range(50):
        rows, columns = class_window(label, CROP, 0.0, np.random.default_rng(seed), [2]) or (slice(0), slice(0))
        assert label[rows, columns].shape == CROP
        assert (label[rows, columns] == 2).sum() == 4
        assert rows.start in (16, 17)
        assert columns.start in (24, 25)
    rows, columns = class_window(label, (50, 60), 0.0, np.random.default_rng(0), [1]) or (slice(1), slice(1))
    assert label[rows, columns].shape == label.shape


def test_classes_that_are_missing_and_labels_without_any(label):
    generator = np.random.default_rng(0)
    assert class_window(label, CROP, 0.0, generator, [7]) is None
    assert class_window(np.full((9, 9), 255, np.uint8), CROP, 1.0, generator) is None


def test_transforms_center_with_the_probability(label):
    image = np.zeros((*label.shape, 3), np.uint8)
    settings = {"base_size": label.shape, "scale_range": (1.0, 1.0), "crop": CROP, "cat_max_ratio": 1.0}
    shares = []
    for probability in (0.0, 0.5, 1.0):
        changed = transform(**settings, crops=ClassCrops(probability, 1.0))
        shares.append(np.mean([bool((changed(image, label, _rng(n))[1] == 2).any()) for n in range(200)]))
    assert shares[0] < 0.3 < shares[1] < shares[2]
    assert shares[2] > 0.85  # 4 ** -1 of 4 ** -1 + 64 ** -1 + ...
    assert (transform(**settings)(image, label, _rng(0), [2])[1] == 2).sum() == 4


def test_without_class_crops_nothing_changes(label):
    image = np.random.default_rng(0).integers(0, 256, (*label.shape, 3), dtype=np.uint8)
    for number in range(5):
        one, other = transform()(image, label, _rng(number)), transform(crops=None)(image, label, _rng(number), [])
        assert torch.equal(one[0], other[0])


def _rng(number: int) -> np.random.Generator:
    return np.random.default_rng(number)
