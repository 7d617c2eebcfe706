"""Resizing, rotation and blur as Pillow does them, for recipes of networks that were trained on its images."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from fastfcn.data.resize import WHOLE, Window
from fastfcn.utils.types import Size

BILINEAR, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST


def resize_image(image: np.ndarray, size: Size, window: Window = WHOLE) -> np.ndarray:
    """`image` (H, W, 3) uint8 at `size`, of which the `window`; bilinear, over a wider area where it gets smaller."""
    return np.array(Image.fromarray(image).resize((size[1], size[0]), BILINEAR))[window]


def resize_label(label: np.ndarray, size: Size) -> np.ndarray:
    """`label` (H, W) uint8 at `size`, each pixel that of the nearest centre."""
    return np.array(Image.fromarray(label).resize((size[1], size[0]), NEAREST))


def rotate_image(image: np.ndarray, degrees: float, fill: Sequence[int]) -> np.ndarray:
    """`image` (H, W, 3) uint8 turned about its centre, counter-clockwise, at the same size; corners get `fill`."""
    return np.array(Image.fromarray(image).rotate(degrees, BILINEAR, fillcolor=tuple(fill)))


def rotate_label(label: np.ndarray, degrees: float, fill: int) -> np.ndarray:
    """`label` (H, W) uint8 turned as `rotate_image` turns its image."""
    return np.array(Image.fromarray(label).rotate(degrees, NEAREST, fillcolor=fill))


def blur_image(image: np.ndarray, radius: float) -> np.ndarray:
    """`image` (H, W, 3) uint8 through a Gaussian whose standard deviation is `radius` pixels."""
    return np.array(Image.fromarray(np.ascontiguousarray(image)).filter(ImageFilter.GaussianBlur(radius)))
