"""Reading images and their sizes from files; every failure is a DataError that names the file."""

from pathlib import Path

import numpy as np
from PIL import Image

from fastfcn.data.decoding import DECODE_ERRORS, as_rgb, explain, open_image, upright_size
from fastfcn.errors import DataError


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) as `read_image` returns it, from the file's header alone."""
    with open_image(path) as image:
        return upright_size(image)


def read_image(path: Path) -> np.ndarray:
    """The image at `path` as RGB, uint8 (H, W, 3), as viewers show it; raises DataError.

    EXIF orientation is applied, as viewers and OpenCV do: a mask drawn over the visible image then fits, and any
    other has another size, which is an error. Other formats: see the table in fastfcn.data.decoding.
    """
    with open_image(path) as image:
        return as_rgb(image)


def from_pil(image: Image.Image) -> np.ndarray:
    """A PIL image as RGB, uint8 (H, W, 3): what `read_image` returns for its file. Raises DataError.

    EXIF orientation is applied to images that were opened from a file and not changed since.
    """
    try:
        pixels = as_rgb(image)
    except DECODE_ERRORS as error:
        raise DataError(f"The PIL image of mode {image.mode} cannot be used: {explain(error)}.") from error
    if not pixels.size:
        raise DataError("The PIL image has no pixels.")
    return pixels
