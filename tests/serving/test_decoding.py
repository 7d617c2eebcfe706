"""Untrusted bytes: allowed formats, limits before decoding, and a problem response for every failure."""

import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastfcn.data.images import read_image
from fastfcn.serving import decoding
from fastfcn.serving.decoding import Limits
from fastfcn.serving.problems import Problem
from tests.helpers.running_service import png
from tests.helpers.tiny import picture

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from serving import hostile_requests as hostile

LIMIT = 100_000


def decode(data: bytes, max_pixels: int, max_side: int = 16_384) -> np.ndarray:
    return decoding.decode(data, Limits(max_pixels, max_side))


def refused(data: bytes, limit: int = LIMIT) -> Problem:
    with pytest.raises(Problem) as problem:
        decode(data, limit)
    return problem.value


def saved(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "JPEG", "WEBP"])
def test_common_formats(kind: str):
    pixels = decode(png(picture(), kind), LIMIT)
    assert pixels.shape == (64, 96, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - picture()).mean() < (1e-9 if kind in ("PNG", "BMP", "TIFF") else 12)


def odd_images() -> dict[str, bytes]:
    image = Image.fromarray(picture())
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray((np.arange(600).reshape(20, 30) * 100).astype(np.uint16))
    return {
        "turned.jpg": saved(image, "JPEG", exif=exif),
        "deep.png": saved(deep, "PNG"),
        "palette.png": saved(image.convert("P"), "PNG"),
        "alpha.png": saved(image.convert("RGBA"), "PNG"),
        "cmyk.jpg": saved(image.convert("CMYK"), "JPEG"),
        "grey.tiff": saved(image.convert("L"), "TIFF"),
        "line.bmp": saved(image.convert("1"), "BMP"),
    }


@pytest.mark.parametrize("name", odd_images())
def test_the_same_pixels_as_from_a_file(name: str, tmp_path: Path):
    """`predict` and the service decode the same pixels."""
    data = odd_images()[name]
    (tmp_path / name).write_bytes(data)
    assert np.array_equal(decode(data, LIMIT), read_image(tmp_path / name))


def test_pixels_are_counted_before_they_are_decoded():
    """A header that claims more pixels than the file contains."""
    head = struct.pack(">IIBBBBB", 12_000, 12_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    data += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    problem = refused(data)
    assert (problem.status, problem.code) == (413, "too-many-pixels")
    assert "12000 x 12000" in problem.detail
    assert refused(png(picture()), 64 * 96 - 1).status == 413
    assert decode(png(picture()), 64 * 96).shape == (64, 96, 3)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (saved(Image.new("RGB", (4, 4)), "GIF"), "GIF"),
        (b"%PDF-1.7", "PDF"),
        (b"  <svg/>", "SVG"),
        (b"\0\0\0\x18ftypheic....", "HEIC"),
        (b"hello", "unknown"),
    ],
)
def test_other_files_are_called_by_their_name(data: bytes, name: str):
    problem = refused(data)
    assert problem.status == 415
    assert name in problem.detail
    assert "PNG" in problem.hint


def test_broken_images_are_problems():
    """Truncated and mutated images of all formats: pixels or a problem, never another error."""
    codes = set()
    for seed in range(150):
        generator = np.random.default_rng(seed)
        data = bytearray(hostile.small_image(generator))
        if seed % 2:
            data = data[: generator.integers(len(data))]
        else:
            data[generator.integers(min(len(data), 100))] ^= 255
        try:
            assert decode(bytes(data), LIMIT).ndim == 3
        except Problem as problem:
            codes.add(problem.status)
    assert codes >= {415, 422}
