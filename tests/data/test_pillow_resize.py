"""The augmentation of the official FastFCN code against the same steps in plain Pillow."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps

from fastfcn.data import pillow_resize as pillow
from fastfcn.data.transforms import TrainTransform, normalize, short_side_size
from tests.helpers.tiny import picture

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
BASE, CROP = 52, 48
NEAREST, BILINEAR = Image.Resampling.NEAREST, Image.Resampling.BILINEAR


def official(**changes) -> TrainTransform:
    settings = {
        "base_size": (BASE, BASE), "scale_range": (0.5, 2.0), "crop": (CROP, CROP), "cat_max_ratio": 1.0,
        "flip": 0.5, "photometric_distortion": 0.0,
        "mean": MEAN, "std": STD, "scale_by": "short_side", "interpolation": "pillow",
        "padding": "black", "blur": 0.5,
    }  # fmt: skip
    return TrainTransform(**(settings | changes))


def plain(image: np.ndarray, label: np.ndarray, generator: np.random.Generator, rotate: float = 0.0):
    """Step by step on Pillow images; random numbers are drawn in the same order as in the transform."""
    resized, mask = Image.fromarray(image), Image.fromarray(label)
    shorter = int(generator.integers(BASE // 2, 2 * BASE + 1))
    width, height = resized.size
    if height > width:
        new = (shorter, int(1.0 * height * shorter / width))
    else:
        new = (int(1.0 * width * shorter / height), shorter)
    resized, mask = resized.resize(new, BILINEAR), mask.resize(new, NEAREST)
    if rotate:
        degrees = generator.uniform(-rotate, rotate)
        resized, mask = resized.rotate(degrees, BILINEAR), mask.rotate(degrees, NEAREST, fillcolor=255)
    top, left = (int(generator.integers(max(side - CROP, 0) + 1)) for side in (new[1], new[0]))
    below, right = max(CROP - new[1], 0), max(CROP - new[0], 0)
    resized = ImageOps.expand(resized, (0, 0, right, below), fill=0)
    mask = ImageOps.expand(mask, (0, 0, right, below), fill=255)
    if generator.random() < 0.5:
        # The original flips before cropping; flipping the crop avoids counting pixels from the other side.
        box = (left, top, left + CROP, top + CROP)
        resized, mask = resized.crop(box), mask.crop(box)
        filled = (min(new[0], CROP), min(new[1], CROP))
        resized, mask = (mirrored(layer, filled) for layer in (resized, mask))
    else:
        box = (left, top, left + CROP, top + CROP)
        resized, mask = resized.crop(box), mask.crop(box)
    if generator.random() < 0.5:
        resized = resized.filter(ImageFilter.GaussianBlur(radius=generator.random()))
    return np.array(resized), np.array(mask)


def mirrored(image: Image.Image, filled: tuple[int, int]) -> Image.Image:
    """The image content flipped, without moving the padding."""
    result = image.copy()
    result.paste(ImageOps.mirror(image.crop((0, 0, *filled))), (0, 0))
    return result


def label_of(height: int, width: int) -> np.ndarray:
    values = np.random.default_rng(1).integers(0, 5, (height // 4 + 1, width // 4 + 1)).astype(np.uint8)
    values[0] = 255
    return values.repeat(4, 0).repeat(4, 1)[:height, :width].copy()


@pytest.mark.parametrize("rotate", [0.0, 10.0])
@pytest.mark.parametrize("size", [(64, 96), (90, 41), (50, 50)])
def test_equals_plain_pillow(size: tuple[int, int], rotate: float):
    image, label = picture(*size), label_of(*size)
    padded = blurred = 0
    for seed in range(40):
        pixels, classes = official(rotate=rotate)(image, label, np.random.default_rng(seed))
        expected, mask = plain(image, label, np.random.default_rng(seed), rotate)
        assert torch.equal(pixels, normalize(expected, MEAN, STD))
        assert np.array_equal(classes.numpy(), mask)
        padded += bool((mask[-1] == 255).all() or (mask[:, -1] == 255).all())
        unblurred = official(rotate=rotate, blur=0.0)(image, label, np.random.default_rng(seed))[0]
        blurred += not torch.equal(pixels, unblurred)
    assert 0 < padded < 40
    assert 0 < blurred < 40


def test_the_shorter_side_is_drawn_from_all_integers_between_the_bounds():
    """26 to 104 for base size 52, both included; a scale factor would not reach most of them."""
    transform, seen = official(), set()
    for seed in range(3000):
        height, width = transform._scaled_size((100, 200), np.random.default_rng(seed))
        assert width == 2 * height
        seen.add(height)
    assert seen == set(range(26, 105))


def test_the_longer_side_is_cut_off():
    assert short_side_size((333, 500), 480) == (480, 720)  # 720.7
    assert short_side_size((500, 333), 480) == (720, 480)
    assert short_side_size((7, 7), 26) == (26, 26)


def test_padding_is_black_before_normalization_or_zero_after():
    image, label = np.full((10, 60, 3), 200, np.uint8), np.zeros((10, 60), np.uint8)
    settings = {"scale_range": (0.5, 0.5), "blur": 0.0}
    black, classes = official(**settings)(image, label, np.random.default_rng(0))
    mean, _ = official(**settings, padding="mean")(image, label, np.random.default_rng(0))
    assert (classes[26:] == 255).all()
    assert (classes[:26] == 0).all()
    torch.testing.assert_close(black[:, 40, 5], -torch.tensor(MEAN) / torch.tensor(STD))
    assert (mean[:, 40, 5] == 0).all()
    assert torch.equal(black[:, :26], mean[:, :26])


def test_the_blur_reaches_from_the_image_into_the_black():
    """Up to its radius, which is random."""
    image, label = np.full((10, 60, 3), 255, np.uint8), np.zeros((10, 60), np.uint8)
    reached = 0
    for seed in range(10):
        pixels, _ = official(scale_range=(0.5, 0.5), blur=1.0)(image, label, np.random.default_rng(seed))
        black, white = -torch.tensor(MEAN) / torch.tensor(STD), (255 - torch.tensor(MEAN)) / torch.tensor(STD)
        edge = (pixels[:, 26, 9] > black + 0.01).all() and (pixels[:, 25, 9] < white - 0.01).all()
        reached += bool(edge)
    assert 3 <= reached <= 10


def test_corners_of_a_turned_image_take_the_color_of_the_padding():
    image, label = np.full((60, 60, 3), 255, np.uint8), np.zeros((60, 60), np.uint8)
    settings = {"rotate": 30.0, "blur": 0.0, "flip": 0.0, "scale_range": (1.0, 1.0), "crop": (52, 52)}
    turned = 0
    for seed in range(10):
        black, classes = official(**settings)(image, label, np.random.default_rng(seed))
        mean, _ = official(**settings, padding="mean")(image, label, np.random.default_rng(seed))
        if classes[0, 0] == 255:
            turned += 1
            assert 0 < (classes == 255).float().mean() < 0.5
            assert (black[:, 0, 0] < -1.5).all()
            assert (mean[:, 0, 0].abs() < 0.02).all()
    assert turned >= 4


def test_opencv_and_pillow_resize_differently():
    image = picture(64, 96)
    ours, theirs = (official(interpolation=name, blur=0.0) for name in ("opencv", "pillow"))
    first, second = (resize(image, label_of(64, 96), np.random.default_rng(0))[0] for resize in (ours, theirs))
    assert not torch.equal(first, second)


def test_a_window_of_a_resized_image():
    image = picture(64, 96)
    window = (slice(3, 20), slice(10, 50))
    assert np.array_equal(pillow.resize_image(image, (40, 70), window), pillow.resize_image(image, (40, 70))[window])
    assert pillow.resize_label(label_of(64, 96), (40, 70)).shape == (40, 70)
