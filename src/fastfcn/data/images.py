"""Decode images and read their sizes; every failure is a DataError that names the file."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from fastfcn.errors import DataError

TURNED = (5, 6, 7, 8)  # EXIF orientations that swap height and width
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open `path` with Pillow; whatever goes wrong while it is open is a DataError that names the file."""
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.", "Check the data folder.") from error
    except BROKEN as error:
        hint = "Restore the file from an intact copy, or remove it together with its mask."
        raise DataError(f"{path} cannot be read: {error}.", hint) from error


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) as `read_image` returns it, from the file's header alone."""
    with opened(path) as image:
        width, height = image.size
        # The general reader, since the one for PNG decodes the whole image in search of late EXIF data.
        turned = Image.Image.getexif(image).get(ExifTags.Base.Orientation) in TURNED
    return (width, height) if turned else (height, width)


def read_image(path: Path) -> np.ndarray:
    """The image at `path` as RGB, uint8 (H, W, 3).

    Its EXIF orientation is applied, as viewers and OpenCV do, so it matches masks drawn on the displayed image.
    Alpha channels are dropped; of 16 bits the upper 8 are kept. Raises DataError if the file cannot be decoded, and for
    32-bit values, whose range is unknown.
    """
    with opened(path) as image:
        return rgb_pixels(image)


def rgb_pixels(image: Image.Image) -> np.ndarray:
    """An opened image as `read_image` returns it. Raises ValueError for values without a known range."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        values = np.asarray(upright).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"its values range from {values.min()} to {values.max()}, which exceeds 16 bits")
        upright = Image.fromarray((values >> 8).astype(np.uint8))
    if upright.mode == "F":
        raise ValueError("it contains floating-point values; convert it to 8 bits")
    return np.array(upright.convert("RGB"))
