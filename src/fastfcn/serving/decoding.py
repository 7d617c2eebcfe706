"""Decode uploaded images: only known formats, and only after checking the image size in the header."""

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from fastfcn.data.decoding import as_rgb
from fastfcn.data.image_limits import check_scans, needs_too_much_memory
from fastfcn.serving import problems
from fastfcn.serving.problems import Problem, reason_of

if TYPE_CHECKING:  # not imported for RGB: the processes that decode start faster
    from fastfcn.data.bands import BandReader

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")  # as Pillow calls them
FORMAT_NAMES = "JPEG, PNG, WebP, BMP or TIFF"
BAND_FORMAT_NAMES = "GeoTIFF, TIFF, a NumPy array (.npy) or PNG"  # for networks of bands
MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp", "image/bmp", "image/tiff")

# First bytes of other file types, to name them in the error.
OTHER_SIGNATURES = (
    (b"GIF8", "a GIF"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML or SVG file"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
    (b"\x00\x00\x01\x00", "an icon"),
    (b"8BPS", "a Photoshop file"),
    (b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
)
BRANDS = {
    b"heic": "an HEIC image",
    b"heix": "an HEIC image",
    b"mif1": "an HEIF image",
    b"avif": "an AVIF image",
}
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"BM", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


def file_type(data: bytes) -> str:
    """The type of a file that is not a supported image, with its article."""
    if data[4:8] == b"ftyp":
        return BRANDS.get(data[8:12], "a video or an unsupported image")
    head = data[:64].lstrip()
    return next((name for start, name in OTHER_SIGNATURES if head.startswith(start)), "an unknown file type")


@dataclass(frozen=True)
class Limits:
    """The most pixels of an image, and of its longer side; the most images of a request."""

    pixels: int
    side: int
    images: int = 1


def decode(data: bytes, limits: Limits, bands: "BandReader | None" = None) -> np.ndarray:
    """The image in `data` as RGB uint8 (H, W, 3), the same pixels as `fastfcn.data.images.read_image` returns.

    With `bands`: float32 (H, W, channels), as `BandReader.read` returns it.

    Raises Problem: 415 for an unsupported format, 413 for an image beyond `limits` (from the header, before decoding),
    422 for a damaged file or a JPEG of too many scans. Any exception of a decoder is reported as a damaged file, not as
    a server error.
    """
    if not data:
        raise problems.no_image()
    if bands is not None:
        return _decode_bands(data, limits, bands)
    if not data.startswith(SIGNATURES):
        raise problems.unknown_format(file_type(data), FORMAT_NAMES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about odd files and large images; our limit is lower
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                check_size((image.height, image.width), limits)
                check_scans(image)
                return _pixels(image)
    except Problem:
        raise
    except Image.DecompressionBombError as error:
        raise Problem(413, "too-many-pixels", "The image has too many pixels.", "Send a smaller image.") from error
    except UnidentifiedImageError as error:
        raise problems.broken_image("its header is damaged") from error
    except Exception as error:  # decoders raise many kinds of exceptions on malformed data
        raise problems.broken_image(reason_of(error)) from error


def _decode_bands(data: bytes, limits: Limits, bands: "BandReader") -> np.ndarray:
    from fastfcn.data.bands import NUMPY, TIFF, read_header

    if not data.startswith((NUMPY, *TIFF, *SIGNATURES)):
        raise problems.unknown_format(file_type(data), BAND_FORMAT_NAMES)
    try:
        check_size(read_header(data).size, limits)
        return bands.decode(data)
    except Problem:
        raise
    except Exception as error:  # as above
        raise problems.broken_image(reason_of(error)) from error


def check_size(size: tuple[int, int], limits: Limits) -> None:
    """Raise Problem (413) for (height, width) beyond `limits`."""
    if size[0] * size[1] > limits.pixels:
        raise problems.too_many_pixels(size, limits.pixels)
    if max(size) > limits.side:
        raise problems.too_long_side(size, limits.side)
    if needs_too_much_memory(*size, limits.pixels):
        raise problems.too_thin(size)


def _pixels(image: Image.Image) -> np.ndarray:
    pixels = as_rgb(image)
    if not pixels.size:
        raise ValueError("it has no pixels")
    return pixels
