"""Resize, rotate and blur with Pillow, for models that were trained with it."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from fastfcn.data.opencv_resize import WHOLE, Window
from fastfcn.utils.sizes import Size

BILINEAR, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST


def resize_image(image: np.ndarray, size: Size, window: Window = WHOLE) -> np.ndarray:
    """Resize `image` (H, W, 3) uint8 to `size`, bilinear with antialiasing, and return the `window`."""
    return np.array(Image.fromarray(image).resize((size[1], size[0]), BILINEAR))[window]


def resize_label(label: np.ndarray, size: Size) -> np.ndarray:
    """Resize `label` (H, W) uint8 to `size` with nearest neighbor."""
    return np.array(Image.fromarray(label).resize((size[1], size[0]), NEAREST))


def rotate_image(image: np.ndarray, degrees: float, fill: Sequence[int]) -> np.ndarray:
    """Rotate `image` (H, W, 3) uint8 counter-clockwise about its center, keeping its size; corners get `fill`."""
    return np.array(Image.fromarray(image).rotate(degrees, BILINEAR, fillcolor=tuple(fill)))


def rotate_label(label: np.ndarray, degrees: float, fill: int) -> np.ndarray:
    """Rotate `label` (H, W) uint8 as `rotate_image` does."""
    return np.array(Image.fromarray(label).rotate(degrees, NEAREST, fillcolor=fill))


def blur_image(image: np.ndarray, radius: float) -> np.ndarray:
    """Blur `image` (H, W, 3) uint8 with a Gaussian; `radius` is its standard deviation in pixels."""
    return np.array(Image.fromarray(np.ascontiguousarray(image)).filter(ImageFilter.GaussianBlur(radius)))
