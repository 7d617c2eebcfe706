"""Resize, rotate and blur with Pillow, for models that were trained with it."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageFilter

from fastfcn.data.opencv_resize import WHOLE, Window
from fastfcn.utils.sizes import Size

BILINEAR, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST


def resize_image(image: np.ndarray, size: Size, window: Window = WHOLE) -> np.ndarray:
    """Resize `image`, RGB uint8 or float32 (H, W, C), to `size`, bilinear with antialiasing; returns the `window`."""
    return _by_band(image, lambda part, _: part.resize((size[1], size[0]), BILINEAR))[window]


def resize_label(label: np.ndarray, size: Size) -> np.ndarray:
    """Resize `label` (H, W) uint8 to `size` with nearest neighbor."""
    return np.array(Image.fromarray(label).resize((size[1], size[0]), NEAREST))


def rotate_image(image: np.ndarray, degrees: float, fill: Sequence[float]) -> np.ndarray:
    """Rotate `image`, RGB uint8 or float32 (H, W, C), counter-clockwise about its center, keeping its size.

    Corners get `fill`, one value per channel.
    """
    if image.dtype == np.uint8:
        color = tuple(round(value) for value in fill)
        return np.array(Image.fromarray(image).rotate(degrees, BILINEAR, fillcolor=color))
    return _by_band(image, lambda part, band: part.rotate(degrees, BILINEAR, fillcolor=fill[band]))


def _by_band(image: np.ndarray, change: Callable[[Image.Image, int], Image.Image]) -> np.ndarray:
    """`change` RGB uint8 (H, W, 3) as a whole, float32 (H, W, C) band by band, which is how Pillow stores floats."""
    if image.dtype == np.uint8:
        return np.array(change(Image.fromarray(image), 0))
    bands = (Image.fromarray(np.ascontiguousarray(image[..., band])) for band in range(image.shape[2]))
    return np.stack([np.asarray(change(part, band)) for band, part in enumerate(bands)], -1)


def rotate_label(label: np.ndarray, degrees: float, fill: int) -> np.ndarray:
    """Rotate `label` (H, W) uint8 as `rotate_image` does."""
    return np.array(Image.fromarray(label).rotate(degrees, NEAREST, fillcolor=fill))


def blur_image(image: np.ndarray, radius: float) -> np.ndarray:
    """Blur `image` (H, W, 3) uint8 with a Gaussian; `radius` is its standard deviation in pixels."""
    return np.array(Image.fromarray(np.ascontiguousarray(image)).filter(ImageFilter.GaussianBlur(radius)))
