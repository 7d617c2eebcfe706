import colorsys

import numpy as np
import pytest
import torch

from fastfcn.data.opencv_resize import resize_image, resize_label
from fastfcn.data.sampler import SampleKey
from fastfcn.data.transforms import (
    TrainTransform,
    distorted,
    largest_class_share,
    normalize,
    normalize_batch,
    shift_colors,
    unpack,
)

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def transform(**changes) -> TrainTransform:
    arguments = {
        "base_size": (40, 60),
        "scale_range": (0.5, 2.0),
        "crop": (32, 48),
        "cat_max_ratio": 0.75,
        "flip": 0.5,
        "photometric_distortion": 0.5,
        "mean": MEAN,
        "std": STD,
    }
    return TrainTransform(**(arguments | changes))


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture
def label() -> np.ndarray:
    values = np.random.default_rng(1).integers(0, 4, (10, 15)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    values[:5] = 255
    return values


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 1), (1, 1, 7), (3, 40, 60)])
def test_a_batch_is_normalized_like_single_images(shape: tuple[int, int, int]):
    images = np.random.default_rng(2).integers(0, 256, (*shape, 3), dtype=np.uint8)
    batch = normalize_batch(torch.from_numpy(images).permute(0, 3, 1, 2), MEAN, STD)
    assert torch.equal(batch, torch.stack([normalize(image, MEAN, STD) for image in images]))
    assert batch.is_contiguous(memory_format=torch.channels_last)


def key(step: int = 5, slot: int = 1, seed: int = 0) -> np.random.Generator:
    return SampleKey(step=step, slot=slot, index=0, seed=seed).generator()


def test_result_is_a_pure_function_of_seed_step_and_slot(image, label):
    first = transform()(image, label, key())
    again = transform()(image, label, key())
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    for other in (key(step=6), key(slot=2), key(seed=1)):
        assert not torch.equal(first[0], transform()(image, label, other)[0])


def test_global_random_state_and_inputs_are_left_alone(image, label):
    np.random.seed(3)
    before, copy = np.random.get_state()[1].copy(), (image.copy(), label.copy())
    first = transform()(image, label, key())
    assert np.array_equal(np.random.get_state()[1], before)
    assert np.array_equal(image, copy[0])
    assert np.array_equal(label, copy[1])
    np.random.seed(4)
    assert torch.equal(first[0], transform()(image, label, key())[0])


def test_sizes_types_and_label_values(image, label):
    for step in range(40):
        pixels, classes = transform()(image, label, key(step))
        assert pixels.shape == (3, 32, 48)
        assert pixels.dtype == torch.float32
        assert classes.shape == (32, 48)
        assert classes.dtype == torch.uint8
        assert set(classes.unique().tolist()) <= {0, 1, 2, 3, 255}


@pytest.mark.parametrize("changes", [{}, {"padding": "black"}, {"blur": 1.0, "rotate": 10.0}], ids=str)
def test_packed_images_unpack_to_the_normalized(image, label, changes: dict):
    plain, packed = (transform(scale_range=(0.5, 1.1), **changes) for _ in range(2))
    packed.packed = True
    padded = 0
    for step in range(8):
        expected, labels = plain(image, label, key(step))
        pixels, same_labels = packed(image, label, key(step))
        assert (pixels.dtype, pixels.shape) == (torch.uint8, (4, 32, 48))
        assert torch.equal(labels, same_labels)
        unpacked = unpack(pixels[None], MEAN, STD)
        assert unpacked.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(unpacked[0], expected)
        padded += int((pixels[3] == 0).any())
    assert bool(padded) == (changes.get("padding") != "black")


def test_padding_is_on_the_right_and_bottom(image, label):
    pad = transform(scale_range=(0.5, 0.5), cat_max_ratio=1.0, flip=0.0, photometric_distortion=0.0)
    pixels, classes = pad(image, label, key())
    assert torch.equal(classes[:20, :30], torch.from_numpy(resize_label(label, (20, 30))))
    assert torch.equal(pixels[:, :20, :30], normalize(resize_image(image, (20, 30)), MEAN, STD))
    assert (pixels[:, 20:] == 0).all()
    assert (pixels[:, :, 30:] == 0).all()
    assert (classes[20:] == 255).all()
    assert (classes[:, 30:] == 255).all()


@pytest.mark.parametrize("shape", [(60, 1), (1, 60), (1, 1)])
def test_flip_of_an_image_one_pixel_wide(shape: tuple[int, int]):
    pixels, classes = np.full((*shape, 3), 90, np.uint8), np.ones(shape, np.uint8)
    result, target = transform(flip=1.0, crop=(40, 60))(pixels, classes, key())
    assert result.shape == (3, 40, 60)
    assert target.shape == (40, 60)


def test_flip_turns_image_and_label_together(image, label):
    still = transform(scale_range=(1.0, 1.0), crop=(40, 60), cat_max_ratio=1.0, photometric_distortion=0.0, flip=0.0)
    turned = transform(scale_range=(1.0, 1.0), crop=(40, 60), cat_max_ratio=1.0, photometric_distortion=0.0, flip=1.0)
    pixels, classes = still(image, label, key())
    assert torch.equal(classes, torch.from_numpy(label))
    mirrored = turned(image, label, key())
    assert torch.equal(mirrored[0], pixels.flip(-1))
    assert torch.equal(mirrored[1], classes.flip(-1))


def test_image_and_label_stay_aligned(label):
    """An image that equals its label still does so after scaling, cropping and flipping."""
    image = np.repeat(label[..., None], 3, axis=2)
    same = transform(photometric_distortion=0.0, mean=(0.0,) * 3, std=(1.0,) * 3, cat_max_ratio=1.0)
    for step in range(20):
        pixels, classes = same(image, label, key(step))
        inside = classes != 255
        agree = (pixels[0].round().to(torch.uint8) == classes)[inside].float().mean()
        assert agree > 0.6  # bilinear and nearest differ along the borders of the small squares


def test_scales_cover_the_range(image, label):
    sizes = set()
    for step in range(200):
        wide = transform(crop=(80, 120), cat_max_ratio=1.0)
        sizes.add(int((wide(image, label, key(step))[0][0].abs().sum(0) > 0).sum()))
    assert min(sizes) < 40
    assert max(sizes) > 110


def test_crops_of_one_class_are_drawn_again():
    label = np.zeros((40, 60), np.uint8)
    label[:, 45:] = 1
    image = np.zeros((40, 60, 3), np.uint8)
    arguments = {"scale_range": (1.0, 1.0), "crop": (20, 20), "photometric_distortion": 0.0}

    def shares(limit: float) -> np.ndarray:
        crops = [transform(cat_max_ratio=limit, **arguments)(image, label, key(s))[1] for s in range(100)]
        return np.array([largest_class_share(crop.numpy()) for crop in crops])

    assert (shares(1.0) >= 0.75).mean() > 0.6
    assert (shares(0.75) >= 0.75).mean() < 0.15  # eleven draws can all fail


def test_largest_class_share_leaves_ignored_pixels_out():
    assert largest_class_share(np.array([[0, 0, 1, 255, 255, 255]], np.uint8)) == pytest.approx(2 / 3)
    assert largest_class_share(np.full((2, 2), 255, np.uint8)) == 1.0


def test_normalize():
    image = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    expected = (image.astype(np.float32) - np.float32(MEAN)) / np.float32(STD)
    result = normalize(image, MEAN, STD)
    assert result.is_contiguous()
    assert np.array_equal(result.numpy(), expected.transpose(2, 0, 1))
    assert np.array_equal(normalize(image[:, ::-1], MEAN, STD).numpy(), expected[:, ::-1].transpose(2, 0, 1))


@pytest.mark.parametrize(("saturation", "hue"), [(1.0, 0.0), (0.5, 0.0), (1.5, 0.0), (1.0, 36.0), (1.3, -30.0)])
def test_shift_colors_against_colorsys(saturation, hue):
    levels = [0, 1, 60, 128, 200, 255]
    colors = np.array([(r, g, b) for r in levels for g in levels for b in levels], np.uint8)
    shifted = shift_colors(colors.reshape(12, 18, 3), saturation, hue).reshape(-1, 3)
    for color, shifted_color in zip(colors, shifted, strict=True):
        h, s, v = colorsys.rgb_to_hsv(*(color / 255))
        expected = colorsys.hsv_to_rgb((h + hue / 360) % 1.0, min(s * saturation, 1.0), v)
        assert np.abs(np.array(expected) * 255 - shifted_color).max() <= 0.51, color


class Scripted:
    """A generator that returns chosen numbers, so that each distortion can be forced."""

    def __init__(self, draws: list[float]):
        self.draws = draws

    def random(self) -> float:
        return self.draws.pop(0)

    def uniform(self, low: float, high: float) -> float:
        value = self.draws.pop(0)
        assert low <= value <= high
        return value

    def integers(self, low: int, high: int) -> int:
        assert (low, high) == (-18, 18)
        return int(self.draws.pop(0))


def test_distortion_clips_cuts_off_and_keeps_the_order():
    image = np.array([[[10, 100, 250]]], np.uint8)
    yes, no = 0.0, 0.9
    brighter = distorted(image, 0.5, Scripted([yes, 20.7, no, no, no, no]))
    assert brighter[0, 0].tolist() == [30, 120, 255]
    first = distorted(image, 0.5, Scripted([yes, 20.7, yes, 1.5, yes, no, no]))
    assert first[0, 0].tolist() == [45, 180, 255]
    last = distorted(image, 0.5, Scripted([no, yes, 0.5, no, yes, 0.5, no]))
    assert last[0, 0].tolist() == (shift_colors(image, 0.5, 0.0)[0, 0] // 2).tolist()
    turned = distorted(image, 0.5, Scripted([no, no, no, no, yes, -18]))
    assert turned.tolist() == shift_colors(image, 1.0, -36.0).tolist()


def test_no_distortion(image):
    assert distorted(image, 0.0, Scripted([])) is image
