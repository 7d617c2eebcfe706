"""HTML as text: what is not markup already is escaped."""

import base64
import io
import math
from html import escape

import numpy as np
from PIL import Image

NONE = "–"


class Markup(str):
    """Text that is HTML, and is not escaped again."""


def tag(name: str, /, *children: str, **attributes: str | int | float | bool | None) -> Markup:
    """An element. `class_="a"` stands for `class="a"`, `data_x` for `data-x`; attributes of None or False are left
    out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value if value is not True else ""))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in ("img", "meta", "line", "rect", "circle", "path", "polyline", "polygon", "br"):
        return Markup(f"<{name}{written}>" if name in ("img", "meta", "br") else f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*parts: str) -> Markup:
    """Parts in a row; plain text among them is escaped."""
    return Markup("".join(part if isinstance(part, Markup) else escape(str(part)) for part in parts))


def number(value: float, digits: int = 1) -> str:
    """A figure, or a dash where there is none."""
    return NONE if value is None or math.isnan(value) else f"{value:.{digits}f}"


def signed(value: float, digits: int = 1) -> str:
    """A figure with its sign, and a true minus."""
    if math.isnan(value):
        return NONE
    value = round(value, digits)
    return f"{value:+.{digits}f}".replace("-", "−") if value else f"{0:.{digits}f}"


def interval(low: float, high: float, digits: int = 1) -> str:
    """Two bounds, or a dash where there are none."""
    return NONE if math.isnan(low) or math.isnan(high) else f"{low:.{digits}f} – {high:.{digits}f}"


def percent(share: float, digits: int = 0) -> str:
    """A share (0-1) in percent."""
    return f"{100 * share:.{digits}f}\u00a0%"


def count(value: int | float) -> str:
    """A large number in a few characters: 1.2 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def jpeg(pixels: np.ndarray, quality: int = 82) -> str:
    """A data address of RGB uint8 (H, W, 3)."""
    return _data(Image.fromarray(pixels), "jpeg", quality=quality)


def png(picture: Image.Image) -> str:
    """A data address of a picture, without loss."""
    return _data(picture, "png", optimize=True)


def _data(picture: Image.Image, kind: str, **settings: int | bool) -> str:
    stream = io.BytesIO()
    picture.save(stream, kind, **settings)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
