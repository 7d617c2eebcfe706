"""Reading images and their sizes from files; every failure is a DataError that names the file."""

from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from fastfcn.data.decoding import DECODE_ERRORS, StoredFile, as_rgb, explain, open_image, upright_size
from fastfcn.errors import DataError
from fastfcn.utils.sizes import Size


class ImageReader(Protocol):
    """Reads the images of a dataset as its network gets them: (H, W, channels) of `dtype`."""

    @property
    def channels(self) -> int: ...

    @property
    def dtype(self) -> str: ...

    def read(self, path: Path | StoredFile) -> np.ndarray:
        """The image at `path`. Raises DataError."""
        ...

    def size(self, path: Path | StoredFile) -> Size:
        """(height, width) of the image at `path`, from its header. Raises DataError."""
        ...

    def preview(self, image: np.ndarray) -> np.ndarray:
        """The image, or several, in colors to look at: RGB uint8 (..., 3)."""
        ...


def image_size(path: Path | StoredFile) -> tuple[int, int]:
    """(height, width) as `read_image` returns it, from the file's header alone."""
    with open_image(path) as image:
        return upright_size(image)


def read_image(path: Path | StoredFile) -> np.ndarray:
    """The image at `path` as RGB, uint8 (H, W, 3), as viewers show it; raises DataError.

    EXIF orientation is applied, as viewers and OpenCV do: a mask drawn over the visible image then fits, and any
    other has another size, which is an error. Other formats: see the table in fastfcn.data.decoding.
    """
    with open_image(path) as image:
        return as_rgb(image)


class RGBReader:
    """Reads RGB images of 8 bits; see `read_image`."""

    channels, dtype = 3, "uint8"

    def read(self, path: Path | StoredFile) -> np.ndarray:
        return read_image(path)

    def size(self, path: Path | StoredFile) -> Size:
        return image_size(path)

    def preview(self, image: np.ndarray) -> np.ndarray:
        return image


RGB = RGBReader()


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
