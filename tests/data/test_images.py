import numpy as np
import pytest
from PIL import Image

from fastfcn.data.images import image_size, read_image
from fastfcn.errors import DataError


@pytest.fixture
def colors() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def test_rgb_and_rgba_keep_their_colors(tmp_path, colors):
    Image.fromarray(colors).save(tmp_path / "rgb.png")
    alpha = np.dstack([colors, np.full(colors.shape[:2], 10, np.uint8)])
    Image.fromarray(alpha).save(tmp_path / "rgba.png")
    assert np.array_equal(read_image(tmp_path / "rgb.png"), colors)
    assert np.array_equal(read_image(tmp_path / "rgba.png"), colors)


def test_grey_palette_and_one_bit_become_rgb(tmp_path, colors):
    grey = colors[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert np.array_equal(read_image(tmp_path / "grey.png"), np.dstack([grey] * 3))
    palette = Image.fromarray(grey % 2).convert("P")
    palette.putpalette([10, 20, 30, 200, 210, 220])
    palette.save(tmp_path / "palette.png")
    expected = np.where(grey[..., None] % 2 == 1, [200, 210, 220], [10, 20, 30])
    assert np.array_equal(read_image(tmp_path / "palette.png"), expected)
    Image.fromarray(grey > 127).save(tmp_path / "bit.png")
    assert np.array_equal(read_image(tmp_path / "bit.png")[..., 1], (grey > 127) * 255)


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
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"cut\.{suffix} cannot be read"):
        read_image(path)
    assert image_size(path) == (64, 64)  # the header is whole


def test_missing_and_foreign_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"absent\.png does not exist"):
        read_image(tmp_path / "absent.png")
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(DataError, match=r"text\.png cannot be read"):
        image_size(tmp_path / "text.png")
