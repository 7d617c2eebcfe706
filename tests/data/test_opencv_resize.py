"""Resizing that equals OpenCV bit for bit, and OpenMMLab's target sizes."""

import hashlib

import numpy as np
import pytest

from fastfcn.data.opencv_resize import keep_ratio_size, resize_image, resize_label, scaled_size

# Size before and after, and the results of cv2.resize 5.0.0, 4.11.0, 4.5.5 and 3.4.18 for `drawn`: INTER_LINEAR and, of
# the first channel, by INTER_NEAREST: SHA-256 of the bytes.
BY_OPENCV = [
    ((37, 53), (61, 29), "d1ba5cd5a272eaf2", "7b0e5c5e03f04c58"),
    ((64, 48), (32, 24), "624611600fb3f05c", "1abda86233d07a2f"),
    ((30, 40), (60, 80), "9fccddb8ed337f36", "ae3bff688904b6f8"),
    ((1, 7), (9, 50), "ce611064f66f0c48", "13f52c37330161a1"),
    ((50, 2), (17, 331), "c38caada12927367", "8d70f99d03ad1376"),
    ((100, 75), (100, 76), "c99b2b65f0e8d170", "f271aaf9b1dbfd83"),
    ((203, 214), (152, 160), "b7d190f2b17f0b41", "1d4935ca0b97c884"),
    ((128, 256), (40, 700), "445e3cf3d964bc78", "c1d347388ca3bc15"),
    ((364, 500), (512, 703), "953b1c410cbbaec4", "aab22935d6d9042f"),
    ((9, 6), (13, 34), "2b5c31a588f47cda", "e09e56322202d458"),
    ((5, 2), (5, 2999), "983a45c588eebd5e", "ca6c917d4d7d34ff"),
]
PAIRS = [case[:2] for case in BY_OPENCV]


def drawn(size: tuple[int, int]) -> np.ndarray:
    """Noise, uint8 (height, width, 3), the same everywhere."""
    values = np.arange(size[0] * size[1] * 3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (values >> np.uint64(56)).astype(np.uint8).reshape(*size, 3)


def digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(("before", "after", "linear", "nearest"), BY_OPENCV)
def test_as_opencv_made_it(before, after, linear, nearest):
    resized = resize_image(drawn(before), after)
    assert (resized.shape, resized.dtype) == ((*after, 3), np.uint8)
    assert digest(resized) == linear
    label = resize_label(drawn(before)[..., 0], after)
    assert (label.shape, label.dtype) == (after, np.uint8)
    assert digest(label) == nearest


def test_as_the_installed_opencv_makes_it():
    cv2 = pytest.importorskip("cv2", reason="OpenCV, with which resizing is compared, is not installed")
    generator = np.random.default_rng(0)
    for _ in range(100):
        before, after = (tuple(int(side) for side in generator.integers(1, 200, 2)) for _ in range(2))
        image = generator.integers(0, 256, (*before, 3), dtype=np.uint8)
        expected = cv2.resize(image, after[::-1], interpolation=cv2.INTER_LINEAR)
        assert np.array_equal(resize_image(image, after), expected), (before, after)
        label = np.ascontiguousarray(image[..., 0])
        expected = cv2.resize(label, after[::-1], interpolation=cv2.INTER_NEAREST)
        assert np.array_equal(resize_label(label, after), expected), (before, after)


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_a_window_equals_that_crop_of_the_resized_image(before, after):
    image = drawn(before)
    full = resize_image(image, after)
    generator = np.random.default_rng(0)
    for _ in range(5):
        top, left = (int(generator.integers(0, side)) for side in after)
        window = slice(top, top + 40), slice(left, left + 50)  # often beyond the right or lower edge
        assert np.array_equal(resize_image(image, after, window), full[window])


def test_a_window_of_an_image_that_keeps_its_size():
    image = drawn((20, 30))
    window = slice(5, 40), slice(7, 9)
    assert np.array_equal(resize_image(image, (20, 30), window), image[5:, 7:9])


def test_mirrored_views_are_read_right():
    image = drawn((20, 30))
    assert np.array_equal(resize_image(image[:, ::-1], (33, 44)), resize_image(image[:, ::-1].copy(), (33, 44)))


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
def test_a_flat_image_stays_flat(value):
    assert (resize_image(np.full((7, 9, 3), value, np.uint8), (31, 5)) == value).all()


def plain_bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Half-pixel bilinear interpolation of the four nearest pixels, in floating point."""
    taps = []
    for out, side in zip(size, image.shape, strict=False):
        place = np.clip((np.arange(out) + 0.5) * side / out - 0.5, 0, side - 1)
        low = place.astype(int)
        taps.append((low, np.minimum(low + 1, side - 1), place - low))
    (top, bottom, down), (left, right, across) = taps
    rows = image[top] * (1 - down)[:, None, None] + image[bottom] * down[:, None, None]
    return rows[:, left] * (1 - across)[:, None] + rows[:, right] * across[:, None]


@pytest.mark.parametrize("size", [(20, 30), (33, 47), (79, 121)])
def test_resize_has_no_antialias(size):
    image = drawn((40, 60))
    difference = resize_image(image, size) - plain_bilinear(image, size)
    assert np.abs(difference).max() < 0.8  # half a level of rounding, and weights in 2048ths


def test_resize_label_takes_the_pixel_at_the_cut_off_coordinate():
    label = np.arange(5, dtype=np.uint8)[None].repeat(2, 0)
    assert resize_label(label, (1, 8)).tolist() == [[0, 0, 1, 1, 2, 3, 3, 4]]
    assert resize_label(label, (2, 3))[1].tolist() == [0, 1, 3]
    # OpenCV's coordinate of pixel 17 is 17 * (1 / (34 / 6)) = 2.9999999999999996, where division says 3.
    assert resize_label(np.arange(6, dtype=np.uint8)[None], (1, 34))[0, 17] == 2


@pytest.mark.parametrize(
    ("size", "bounds", "expected"),
    [
        ((1024, 2048), (1024, 2048), (1024, 2048)),
        ((512, 683), (512, 2048), (512, 683)),
        ((300, 400), (512, 2048), (512, 683)),
        ((400, 300), (512, 2048), (683, 512)),
        ((100, 1000), (512, 2048), (205, 2048)),
        ((360, 480), (180, 240), (180, 240)),
        ((1, 3000), (32, 48), (1, 48)),
    ],
)
def test_keep_ratio_size(size, bounds, expected):
    assert keep_ratio_size(size, bounds) == expected


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        # From mmcv 2.1.0: _scale_size after rescale_size, as in its Resize.
        ((512, 683), 0.5, (256, 342)),
        ((512, 683), 1.25, (640, 854)),
        ((203, 214), 0.75, (152, 160)),
        ((203, 214), 1.75, (355, 374)),
        ((203, 221), 0.75, (152, 165)),
        ((315, 640), 0.75, (236, 479)),
        ((315, 640), 1.75, (551, 1119)),
        ((1024, 2048), 0.75, (768, 1536)),
    ],
)
def test_scaled_size(size, scale, expected):
    assert scaled_size(size, scale) == expected
