"""How notebooks show a prediction: the overlay, and below it a legend with the share of each class."""

import base64
import io
from collections.abc import Mapping
from html import escape

import numpy as np
from PIL import Image

from fastfcn.data.description import DatasetDescription

MAX_SIDE = 960  # pixels; limits the size of the notebook file, which contains all images


def as_png(pixels: np.ndarray) -> bytes:
    """RGB uint8 (H, W, 3) as a PNG file, scaled down to at most 960 pixels per side."""
    image = Image.fromarray(pixels)
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def as_html(pixels: np.ndarray, shares: Mapping[str, float], description: DatasetDescription) -> str:
    """RGB uint8 (H, W, 3) as self-contained HTML with a legend of the classes, sorted by `shares` (0 to 1)."""
    content = base64.b64encode(as_png(pixels)).decode()
    colors = dict(zip(description.class_names, description.colors, strict=True))
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    legend = "".join(_entry(name, colors[name], share) for name, share in ordered)
    return (
        f'<figure style="margin:0"><img alt="Prediction" style="max-width:100%" src="data:image/png;base64,{content}">'
        f'<figcaption style="font:13px sans-serif;margin-top:.5em">{legend}</figcaption></figure>'
    )


def _entry(name: str, color: tuple[int, int, int], share: float) -> str:
    percent = "&lt; 0.1 %" if share < 0.001 else f"{share:.1%}".replace("%", " %")
    swatch = f"display:inline-block;width:.9em;height:.9em;border-radius:3px;background:rgb{color}"
    return (
        f'<span style="white-space:nowrap;margin-right:1.2em"><span style="{swatch}"></span> '
        f"{escape(name)} <small>{percent}</small></span> "
    )
