"""From the bytes that a stranger sent to pixels: only the formats named, and no pixel before its count is known."""

import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from fastfcn.data.images import rgb_pixels
from fastfcn.serving import problems
from fastfcn.serving.problems import Problem, reason_of

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")  # as Pillow calls them
KNOWN = "JPEG, PNG, WebP, BMP or TIFF"
MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp", "image/bmp", "image/tiff")

# First bytes, and what begins with them: to call a wrong file by its name.
OTHERS = (
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
    b"heic": "an HEIC photograph",
    b"heix": "an HEIC photograph",
    b"mif1": "an HEIF image",
    b"avif": "an AVIF image",
}
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"BM", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


def what_is(data: bytes) -> str:
    """What bytes that are no image of ours seem to be."""
    if data[4:8] == b"ftyp":
        return BRANDS.get(data[8:12], "a video or an image of another kind")
    head = data[:64].lstrip()
    return next((name for start, name in OTHERS if head.startswith(start)), "something unknown")


def decode(data: bytes, max_pixels: int) -> np.ndarray:
    """RGB uint8 (H, W, 3) of the image in `data`, the same pixels that `fastfcn.data.images.read_image` reads.

    Raises Problem: 415 for another format, 413 for more than `max_pixels` (by the header, before anything is
    decoded), 422 for what is broken. Whatever a decoder trips over is the file's fault, never an error of the service.
    """
    if not data:
        raise problems.no_image()
    if not data.startswith(SIGNATURES):
        raise problems.unknown_format(what_is(data), KNOWN)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, on odd files and large images; the limit here is lower
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > max_pixels:
                    raise problems.too_many_pixels((image.height, image.width), max_pixels)
                return _pixels(image)
    except Problem:
        raise
    except Image.DecompressionBombError as error:
        raise Problem(413, "too-many-pixels", "The image has far too many pixels.", "Shrink it.") from error
    except UnidentifiedImageError as error:
        raise problems.broken_image("its header is damaged") from error
    except Exception as error:  # decoders fail in many ways on hostile bytes
        raise problems.broken_image(reason_of(error)) from error


def _pixels(image: Image.Image) -> np.ndarray:
    pixels = rgb_pixels(image)
    if not pixels.size:
        raise ValueError("it has no pixels")
    return pixels
