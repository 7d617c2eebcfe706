"""Decoding of all kinds of image files, on files written byte by byte."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastfcn.data.decoding import as_colors, as_numbers, as_rgb, open_image, upright_size
from fastfcn.errors import DataError
from tests.helpers.band_sets import png_16_bits
from tests.helpers.image_files import jpeg_with_exif, png, pnm, tiff

SIZE = (32, 48)
STORED = [0, 1, 2]
REFUSED = None


def label(largest: int = 2) -> np.ndarray:
    """Two rectangles of the values 1 and `largest` on 0."""
    values = np.zeros(SIZE, np.uint32)
    values[4:12, 4:20] = 1
    values[16:28, 24:40] = largest
    return values


MASKS = {
    "png gray 1": (png(label(1), 1, 0), [0, 1]),
    "png gray 2": (png(label(), 2, 0), STORED),
    "png gray 4": (png(label(), 4, 0), STORED),
    "png gray 8": (png(label(), 8, 0), STORED),
    "png gray 8, 255": (png(label(255), 8, 0), [0, 1, 255]),
    "png gray 16": (png(label(300), 16, 0), [0, 1, 300]),
    "png palette 1": (png(label(1), 1, 3), [0, 1]),
    "png palette 2": (png(label(), 2, 3), STORED),
    "png palette 4": (png(label(), 4, 3), STORED),
    "png palette 8": (png(label(200), 8, 3), [0, 1, 200]),
    "png gray and alpha 8": (png(label(), 8, 4), STORED),
    "png gray and alpha 16": (png(label(), 16, 4), REFUSED),
    "png rgb 8": (png(label(), 8, 2), STORED),
    "png rgb 16": (png(label(), 16, 2), REFUSED),
    "png rgba 8": (png(label(), 8, 6), STORED),
    "png rgba 8, transparent": (png(label(), 8, 6, alpha=0), STORED),
    "png rgba 16": (png(label(), 16, 6), REFUSED),
    "tiff 1": (tiff(label(1), 1), [0, 1]),
    "tiff 1, white is zero": (tiff(label(1), 1, 0), [0, 1]),
    "tiff 2": (tiff(label(), 2), STORED),
    "tiff 2, white is zero": (tiff(label(), 2, 0), STORED),
    "tiff 4": (tiff(label(), 4), STORED),
    "tiff 4, white is zero": (tiff(label(), 4, 0), STORED),
    "tiff 8": (tiff(label(), 8), STORED),
    "tiff 8, white is zero": (tiff(label(), 8, 0), STORED),
    "tiff 16": (tiff(label(300), 16), [0, 1, 300]),
    "tiff 16, white is zero": (tiff(label(300), 16, 0), [0, 1, 300]),
    "tiff 32": (tiff(label(300), 32), [0, 1, 300]),
    "tiff 32, beyond 16 bits": (tiff(label(70000), 32), REFUSED),
    "pgm, maxval 1": (pnm(label(1), 1), [0, 1]),
    "pgm, maxval 2": (pnm(label(), 2), STORED),
    "pgm, maxval 11": (pnm(label(11), 11), [0, 1, 11]),
    "pgm, maxval 254": (pnm(label(254), 254), [0, 1, 254]),
    "pgm, maxval 255": (pnm(label(255), 255), [0, 1, 255]),
    "pgm, maxval 300": (pnm(label(300), 300), [0, 1, 300]),
    "pgm, maxval 65535": (pnm(label(300), 65535), [0, 1, 300]),
    "pgm as text, maxval 11": (pnm(label(11), 11, plain=True), [0, 1, 11]),
}


def read(content: bytes, name: str) -> list[int] | None:
    try:
        with open_image(io.BytesIO(content), name) as image:
            values = as_numbers(image)
    except DataError:
        return REFUSED
    assert values.shape == SIZE
    assert values.dtype in (np.uint8, np.uint16)
    return np.unique(values).tolist()


@pytest.mark.parametrize("name", MASKS)
def test_masks_keep_their_stored_numbers(name: str):
    content, expected = MASKS[name]
    assert read(content, name) == expected


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("largest", [1, 3])
def test_pixels_keep_their_places(bits: int, largest: int):
    values = label(min(largest, 2**bits - 1))
    for content in (png(values, bits, 0), tiff(values, bits), tiff(values, bits, 0)):
        with open_image(io.BytesIO(content), "mask") as image:
            assert np.array_equal(as_numbers(image), values)


@pytest.mark.parametrize("form", ["LA", "PA", "CMYK", "YCbCr", "LAB", "F", "RGB"])
def test_forms_made_by_pillow(form: str):
    values = label().astype(np.uint8)
    if form == "F":
        image = Image.fromarray(values.astype(np.float32))
    elif form == "RGB":
        image = Image.fromarray(np.stack([values, values, values * 2], -1))
    else:
        image = Image.fromarray(values).convert("P" if form == "PA" else "L").convert(form)
    if form in ("LA", "PA"):
        assert np.unique(as_numbers(image)).tolist() == STORED
    else:
        with pytest.raises(ValueError, match=r"masks cannot have|color mask"):
            as_numbers(image)


def test_colors_of_more_than_8_bits_are_refused():
    for content in (png(label(), 16, 2), png(label(300), 16, 0)):
        with pytest.raises(DataError, match="save it as 8-bit"), open_image(io.BytesIO(content), "mask.png") as image:
            as_colors(image)
    with open_image(io.BytesIO(png(label(), 8, 2)), "mask.png") as image:
        assert np.unique(as_colors(image)).tolist() == [0, 0x10101, 0x20202]


def upside_down(path: Path, *tags: tuple[int, int, int, bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of a JPEG file as stored, and as `as_rgb` reads them with EXIF orientation 3 and other tags."""
    buffer = io.BytesIO()
    Image.fromarray((np.arange(32 * 48 * 3) % 251).astype(np.uint8).reshape(32, 48, 3)).save(buffer, "JPEG")
    path.write_bytes(jpeg_with_exif(buffer.getvalue(), (274, 3, 1, struct.pack("<H", 3)), *tags))
    with open_image(path) as image:
        return np.array(Image.open(buffer)), as_rgb(image)


@pytest.mark.parametrize(
    "tag",
    [(700, 2, 9, b"<x:xmp/>\0"), (282, 2, 3, b"72\0"), (256, 8, 1, struct.pack("<h", -5)), (37510, 99, 4, b"abcd")],
)
def test_exif_that_cannot_be_written_again_is_still_read(tmp_path: Path, tag: tuple[int, int, int, bytes]):
    stored, read = upside_down(tmp_path / "a.jpg", tag)
    assert np.array_equal(read, stored[::-1, ::-1])


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("form", ["jpg", "png", "tif"])
def test_orientations_turn_pixels_and_size_alike(tmp_path: Path, orientation: int, form: str):
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :24] = 255  # a bright quarter, top left as stored
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"a.{form}"
    Image.fromarray(pixels).save(path, exif=exif)
    with open_image(path) as image:
        size = upright_size(image)
        read = as_rgb(image)
    assert read.shape[:2] == size == ((48, 32) if orientation in (5, 6, 7, 8) else (32, 48))
    height, width = size
    corners = [read[y, x, 0] > 128 for y in (2, height - 3) for x in (2, width - 3)]
    expected = {2: 1, 3: 3, 4: 2, 6: 1, 7: 3, 8: 2}.get(orientation, 0)
    assert corners.index(True) == expected


def test_images_without_a_known_range_are_refused():
    with pytest.raises(ValueError, match="floating-point"):
        as_rgb(Image.fromarray(np.zeros((4, 4), np.float32)))
    with pytest.raises(ValueError, match="more than 16 bits"):
        as_rgb(Image.fromarray(np.full((4, 4), 70000, np.int32)))


def test_16_bit_images_keep_their_upper_8_bits():
    ramp = np.linspace(0, 65535, 96).astype(np.uint16)[None].repeat(4, 0)
    for image in (Image.fromarray(ramp), Image.fromarray(ramp.astype(np.int32))):
        assert np.array_equal(as_rgb(image)[..., 0], ramp >> 8)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_images_that_use_the_lower_bits_only_are_refused(channels: int):
    pixels = np.random.default_rng(0).integers(0, 4096, (20, 30, channels)).astype(np.uint16)
    pixels[..., 3:] = 65535  # alpha
    pixels[0, 0] = 65535  # a few bright values do not make it a 16-bit image
    for name, change in (("dark", pixels), ("bright", pixels * 16), ("black", pixels * 0)):
        content = io.BytesIO(png_16_bits(change))
        if name == "dark":
            with pytest.raises(DataError, match=r"below 4096.*init --bands"), open_image(content, name) as image:
                as_rgb(image)
        else:
            with open_image(content, name) as image:
                assert np.array_equal(as_rgb(image)[..., 0], change[..., 0] >> 8)


def test_an_image_beyond_pillows_limit_is_not_called_broken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(DataError) as caught, open_image(io.BytesIO(png(label(), 8, 0)), "big.png"):
        pass
    assert "more pixels than the limit" in caught.value.message
    assert "--tile" in (caught.value.hint or "")
    assert "Get the file again" not in (caught.value.hint or "")


def test_errors_name_the_file_and_the_cause(tmp_path: Path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    for name, reason in (("missing.png", "does not exist"), ("text.png", "not an image"), ("folder.png", "directory")):
        with pytest.raises(DataError) as caught, open_image(tmp_path / name):
            pass
        assert str(tmp_path / name) in caught.value.message
        assert reason in caught.value.message
