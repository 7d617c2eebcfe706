"""Limits of images of unknown origin: sides, estimated memory, scans of JPEG files."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastfcn.data.image_limits import (
    MAX_SCANS,
    MAX_SIDE,
    check_limits,
    check_sides,
    count_scans,
    memory_pixels,
    needs_too_much_memory,
)
from fastfcn.data.images import image_size, read_image
from fastfcn.errors import DataError

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from serving.hostile_images import many_scans, thin_png

RANDOM_IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 56, 3), np.uint8))


def jpeg(image: Image.Image = RANDOM_IMAGE, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "scans"),
    [
        (jpeg(), 1),
        (jpeg(quality=100, restart_marker_rows=1), 1),
        (jpeg(comment=b"\xff\xda" * 500), 1),
        (jpeg(icc_profile=b"\xff\xda\x00\x02" * 30_000), 1),
        (jpeg(RANDOM_IMAGE.convert("L")), 1),
        (jpeg(RANDOM_IMAGE.convert("CMYK")), 1),
        (jpeg() + jpeg(progressive=True) * 50, 1),  # bytes after the image, as in a file of several images
        (jpeg(progressive=True), 10),
        (jpeg(RANDOM_IMAGE.convert("L"), progressive=True), 6),
        (many_scans(32, 32, 50), 52),
        (b"", 0),
        (b"\xff\xd8", 0),
        (jpeg(progressive=True)[:100], 0),
    ],
)
def test_scans_are_counted(data: bytes, scans: int):
    assert count_scans(data, 1000) == scans


def test_counting_ends_beyond_the_limit():
    assert count_scans(many_scans(32, 32, 5000), MAX_SCANS) == MAX_SCANS + 1


def test_files_of_many_scans_are_refused_before_decoding():
    for scans in (MAX_SCANS, 60_000):
        with (
            Image.open(io.BytesIO(many_scans(2880, 2880, scans))) as image,
            pytest.raises(ValueError, match="more than 200 scans"),
        ):
            check_limits(image)
    for data in (jpeg(progressive=True), jpeg(), many_scans(32, 32, 100)):
        with Image.open(io.BytesIO(data)) as image:
            check_limits(image)
            image.load()  # the position in the file is unchanged


def test_files_beyond_the_limits_are_data_errors(tmp_path: Path):
    """As `check`, `predict` and training read them."""
    files = {
        "scans.jpg": many_scans(640, 480, 10_000),
        "thin.png": thin_png(8_388_608),
        "tall.png": thin_png(1, 65_536),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        for read in (read_image, image_size):
            with pytest.raises(DataError, match=f"{name} cannot be read: it has .* (scans|pixels)") as error:
                read(tmp_path / name)
            assert ("tiles" if "png" in name else "The file is complete") in error.value.hint
    (tmp_path / "long.png").write_bytes(thin_png(65_535))
    assert read_image(tmp_path / "long.png").shape == (1, 65_535, 3)


def test_fill_bytes_before_markers_do_not_hide_scans():
    data = many_scans(32, 32, 500)
    assert count_scans(data.replace(b"\xff\xda", b"\xff\xff\xff\xda"), MAX_SCANS) == MAX_SCANS + 1


def test_sides():
    check_sides(MAX_SIDE, 1)
    for height, width in ((MAX_SIDE + 1, 1), (1, 8_388_608)):
        with pytest.raises(ValueError, match=f"{width} x {height} pixels"):
            check_sides(height, width)


@pytest.mark.parametrize(("height", "width", "pixels"), [(1, 1, 1024), (32, 64, 2048), (33, 65, 64 * 96)])
def test_memory_pixels(height: int, width: int, pixels: int):
    assert memory_pixels(height, width) == memory_pixels(width, height) == pixels


def test_thin_images_need_more_memory_than_their_pixels():
    limit = 2**23
    for size in ((2896, 2896), (2000, 4000), (500, 16_384), (100, 60_000), (33, 65_535)):
        assert not needs_too_much_memory(*size, limit)
    for size in ((1, limit), (2, limit // 2), (limit // 8, 8), (1, 600_000)):
        assert needs_too_much_memory(*size, limit)
    for pixels in (1, 2, 100, 4096, 200_000):
        side = int(pixels**0.5)
        assert not needs_too_much_memory(side, side, pixels)
