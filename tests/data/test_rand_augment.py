"""RandAugment's photometric operations: by hand, their range, and what they leave alone."""

import numpy as np
import pytest
import torch

from fastfcn.data import rand_augment
from fastfcn.data.rand_augment import OPERATIONS, RandAugment
from tests.data.test_transforms import transform


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(20, 236, (24, 36, 3), dtype=np.uint8)


def alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(rand_augment, "OPERATIONS", (getattr(rand_augment, name),))


def test_brightness_by_hand(image, monkeypatch):
    """The factor is 1 +- 0.9 * magnitude / 10."""
    alone(monkeypatch, "_brightness")
    results = [RandAugment(1, 5.0)(image, np.random.default_rng(seed)) for seed in range(8)]
    options = [np.clip(image * factor, 0, 255) for factor in (0.55, 1.45)]
    errors = np.array([[np.abs(result - option).max() for option in options] for result in results])
    assert (errors.min(1) <= 1).all()
    assert len(set(errors.argmin(1))) == 2


def test_posterize_and_solarize_by_hand(image, monkeypatch):
    alone(monkeypatch, "_posterize")
    assert np.array_equal(RandAugment(1, 5.0)(image, np.random.default_rng(0)), image & 0b11111100)
    alone(monkeypatch, "_solarize")
    expected = np.where(image < 128, image, 255 - image)
    assert np.array_equal(RandAugment(1, 5.0)(image, np.random.default_rng(0)), expected)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_operations_keep_the_form_and_magnitude_zero_changes_nothing(image, operation, monkeypatch):
    monkeypatch.setattr(rand_augment, "OPERATIONS", (operation,))
    strong, none = (RandAugment(1, size)(image, np.random.default_rng(3)) for size in (9.0, 0.0))
    assert strong.shape == image.shape
    assert strong.dtype == np.uint8
    assert np.array_equal(strong, image) == (operation.__name__ == "_unchanged")
    if operation.__name__ not in ("_equalize", "_autocontrast"):  # they have no magnitude
        assert np.array_equal(none, image)
    RandAugment(3, 10.0)(image[:1, :1], np.random.default_rng(0))


def test_all_operations_are_drawn_and_the_generator_decides(image, monkeypatch):
    drawn = []
    recorded = tuple(
        lambda picture, _, number=number: drawn.append(number) or picture for number in range(len(OPERATIONS))
    )
    monkeypatch.setattr(rand_augment, "OPERATIONS", recorded)
    for seed in range(40):
        RandAugment(2, 5.0)(image, np.random.default_rng(seed))
    assert len(drawn) == 80
    assert set(drawn) == set(range(len(OPERATIONS)))


def test_the_transform_changes_colors_only(image):
    label = np.random.default_rng(1).integers(0, 4, image.shape[:2], dtype=np.uint8)
    results = [
        transform(photometric_distortion=0.0, colors=colors)(image, label, np.random.default_rng(2))
        for colors in (None, RandAugment(3, 9.0), RandAugment(3, 9.0))
    ]
    assert torch.equal(results[0][1], results[1][1])
    assert not torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[1][0], results[2][0])
