"""Numbers and images as text, for the report's templates."""

import base64
import io
import math

import numpy as np
from PIL import Image

UNDEFINED = "–"


def number(value: float | None, digits: int = 1) -> str:
    """A number with `digits` decimals, or a dash for None and nan."""
    return UNDEFINED if value is None or math.isnan(value) else f"{value:.{digits}f}"


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign (a real minus), or a dash for nan."""
    if math.isnan(value):
        return UNDEFINED
    value = round(value, digits)
    return f"{value:+.{digits}f}".replace("-", "−") if value else f"{0:.{digits}f}"


def interval(low: float, high: float, digits: int = 1) -> str:
    """Two bounds, or a dash if either is nan."""
    return UNDEFINED if math.isnan(low) or math.isnan(high) else f"{low:.{digits}f} – {high:.{digits}f}"


def percent(fraction: float, digits: int = 0) -> str:
    """A fraction (0-1) in percent."""
    return f"{100 * fraction:.{digits}f}\u00a0%"


def compact(value: float) -> str:
    """A large number in a few characters: 1.2 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def significant(value: float, digits: int = 3) -> str:
    """A number with `digits` significant digits."""
    return f"{value:.{digits}g}"


def jpeg_uri(pixels: np.ndarray, quality: int = 82) -> str:
    """A data URI of an RGB image, uint8 (H, W, 3)."""
    return _data_uri(Image.fromarray(pixels), "jpeg", quality=quality)


def png_uri(image: Image.Image) -> str:
    """A lossless data URI."""
    return _data_uri(image, "png", optimize=True)


def _data_uri(image: Image.Image, kind: str, **settings: int | bool) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, **settings)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


FILTERS = {function.__name__: function for function in (number, signed, percent, compact, significant)}
