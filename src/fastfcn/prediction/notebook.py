"""A prediction in a notebook: the overlay as a picture, and below it the classes with colour and share."""

import base64
import io
from collections.abc import Mapping
from html import escape

import numpy as np
from PIL import Image

from fastfcn.data.description import DataSetDescription

WIDEST = 960  # pixels: a notebook stores every picture in its file


def as_png(picture: np.ndarray) -> bytes:
    """RGB uint8 (H, W, 3) as the bytes of a PNG, at most 960 pixels wide and high."""
    image = Image.fromarray(picture)
    image.thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def as_html(picture: np.ndarray, shares: Mapping[str, float], description: DataSetDescription) -> str:
    """The picture with a legend of the classes in it, the largest first; it needs nothing from outside."""
    content = base64.b64encode(as_png(picture)).decode()
    colors = dict(zip(description.class_names, description.colors, strict=True))
    ordered = sorted(shares.items(), key=lambda each: -each[1])
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
