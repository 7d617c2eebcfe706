import io
import os
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from fastfcn.data.images import from_pil, image_size, read_image
from fastfcn.errors import DataError
from tests.helpers.image_files import jpeg_with_exif


@pytest.fixture
def colors() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def test_rgb_and_rgba_keep_their_colors(tmp_path, colors):
    Image.fromarray(colors).save(tmp_path / "rgb.png")
    alpha = np.dstack([colors, np.full(colors.shape[:2], 10, np.uint8)])
    Image.fromarray(alpha).save(tmp_path / "rgba.png")
    assert np.array_equal(read_image(tmp_path / "rgb.png"), colors)
    assert np.array_equal(read_image(tmp_path / "rgba.png"), colors)


def test_gray_palette_and_one_bit_images_become_rgb(tmp_path, colors):
    gray = colors[..., 0]
    Image.fromarray(gray).save(tmp_path / "gray.png")
    assert np.array_equal(read_image(tmp_path / "gray.png"), np.dstack([gray] * 3))
    palette = Image.fromarray(gray % 2).convert("P")
    palette.putpalette([10, 20, 30, 200, 210, 220])
    palette.save(tmp_path / "palette.png")
    expected = np.where(gray[..., None] % 2 == 1, [200, 210, 220], [10, 20, 30])
    assert np.array_equal(read_image(tmp_path / "palette.png"), expected)
    Image.fromarray(gray > 127).save(tmp_path / "bit.png")
    assert np.array_equal(read_image(tmp_path / "bit.png")[..., 1], (gray > 127) * 255)


def test_sixteen_bits_keep_the_upper_eight(tmp_path):
    values = np.array([[0, 255, 256], [32768, 65280, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert np.array_equal(read_image(tmp_path / "deep.png")[..., 0], values >> 8)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_values_without_a_range_are_refused(tmp_path, dtype):
    path = tmp_path / "wide.tif"
    Image.fromarray(np.array([[0, 1], [2, 100000]], dtype=dtype)).save(path)
    with pytest.raises(DataError, match=r"wide\.tif cannot be read"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_exif_orientation_is_applied_to_image_and_size(tmp_path, suffix):
    image = Image.fromarray(np.zeros((4, 6, 3), np.uint8))
    exif = Image.Exif()
    exif[274] = 6
    image.save(tmp_path / f"turned.{suffix}", exif=exif)
    assert read_image(tmp_path / f"turned.{suffix}").shape == (6, 4, 3)
    assert image_size(tmp_path / f"turned.{suffix}") == (6, 4)
    image.save(tmp_path / f"plain.{suffix}")
    assert image_size(tmp_path / f"plain.{suffix}") == (4, 6)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_files_are_named(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=rf"cut\.{suffix} cannot be read"):
        read_image(path)
    assert image_size(path) == (64, 64)  # the header is complete


def test_missing_and_foreign_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"absent\.png does not exist"):
        read_image(tmp_path / "absent.png")
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(DataError, match=r"text\.png cannot be read"):
        image_size(tmp_path / "text.png")


def test_pil_images_give_the_pixels_of_their_files(tmp_path):
    ramp = np.tile(np.linspace(0, 65535, 96).astype(np.uint16), (64, 1))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    plain = io.BytesIO()
    Image.fromarray((ramp >> 8).astype(np.uint8)).save(plain, "JPEG")
    (tmp_path / "turned.jpg").write_bytes(jpeg_with_exif(plain.getvalue(), (274, 3, 1, struct.pack("<H", 6))))
    for name in ("ramp.png", "turned.jpg"):
        with Image.open(tmp_path / name) as image:
            assert np.array_equal(from_pil(image), read_image(tmp_path / name))
    with Image.open(tmp_path / "turned.jpg") as image:
        upright = ImageOps.exif_transpose(image)
    assert np.array_equal(from_pil(upright), read_image(tmp_path / "turned.jpg"))


@pytest.mark.parametrize("values", [np.linspace(0, 1, 12, dtype=np.float32), np.arange(12, dtype=np.int32) * 20])
def test_pil_images_of_unknown_range_are_refused(values):
    with pytest.raises(DataError, match=r"PIL image of mode [IF] cannot be used.*range is not known"):
        from_pil(Image.fromarray(values.reshape(3, 4)))


@pytest.mark.parametrize("read", [read_image, image_size])
def test_files_that_are_not_regular_are_refused_at_once(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "self.png").symlink_to("self.png")
    for name in ("pipe.png", "zero.png", "self.png"):
        with pytest.raises(DataError, match=f"{name} cannot be read"):
            read(tmp_path / name)
