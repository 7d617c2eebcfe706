"""Random photometric operations in the style of RandAugment (arXiv:1909.13719)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

HIGHEST = 10.0  # magnitude

Operation = Callable[[Image.Image, float], Image.Image]


@dataclass(frozen=True)
class RandAugment:
    """`operations` operations in sequence, each drawn from OPERATIONS with replacement, at one `magnitude` (0 to 10).

    Only operations that leave the label valid as it is: the geometric ones of the paper are left out. Their ranges are
    those of AutoAugment (arXiv:1805.09501, table 6); a change in both directions has a random sign.
    """

    operations: int
    magnitude: float

    def __call__(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """`image` (H, W, 3) uint8, changed; all randomness comes from `generator`."""
        result = Image.fromarray(np.ascontiguousarray(image))
        for _ in range(self.operations):
            operation = OPERATIONS[generator.integers(len(OPERATIONS))]
            sign = 1.0 if generator.random() < 0.5 else -1.0
            result = operation(result, sign * self.magnitude / HIGHEST)
        return np.array(result)


def _unchanged(image: Image.Image, _: float) -> Image.Image:
    return image


def _autocontrast(image: Image.Image, _: float) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, _: float) -> Image.Image:
    return ImageOps.equalize(image)


def _posterize(image: Image.Image, strength: float) -> Image.Image:
    return ImageOps.posterize(image, 8 - round(4 * abs(strength)))


def _solarize(image: Image.Image, strength: float) -> Image.Image:
    return ImageOps.solarize(image, round(256 * (1 - abs(strength))))


def _saturation(image: Image.Image, strength: float) -> Image.Image:
    return ImageEnhance.Color(image).enhance(1 + 0.9 * strength)


def _contrast(image: Image.Image, strength: float) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(1 + 0.9 * strength)


def _brightness(image: Image.Image, strength: float) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1 + 0.9 * strength)


def _sharpness(image: Image.Image, strength: float) -> Image.Image:
    return ImageEnhance.Sharpness(image).enhance(1 + 0.9 * strength)


OPERATIONS: tuple[Operation, ...] = (
    _unchanged,
    _autocontrast,
    _equalize,
    _posterize,
    _solarize,
    _saturation,
    _contrast,
    _brightness,
    _sharpness,
)
