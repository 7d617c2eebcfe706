"""Charts as SVG that takes its colours from the page and its width from the screen."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fastfcn.report.markup import Markup, join, tag

WIDTH, HEIGHT = 380, 230  # units of a chart; about pixels on a telephone
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 28


@dataclass(frozen=True)
class Line:
    """Values over steps; `kind` is the CSS class of its colour. With `low` and `high` a band is drawn behind it."""

    kind: str
    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    dots: bool = False


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers from `low` to `high`, about `wanted`."""
    span = max(high - low, 1e-12)
    rough = span / wanted
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * each for each in (1, 2, 2.5, 5, 10) if size * each >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A figure on an axis."""
    if value and abs(value) < 0.001:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:.6g}"


def line_chart(title: str, lines: Sequence[Line], low: float | None = None, high: float | None = None) -> Markup:
    """Lines over steps in one frame, with axes, and a legend where there are several."""
    lines = [each for each in lines if len(each.x)]
    if not lines:
        return Markup("")
    top = high if high is not None else max(_upper(each) for each in lines)
    bottom = low if low is not None else min(_lower(each) for each in lines)
    top = top if top > bottom else bottom + (abs(bottom) or 1.0) * 0.1
    right = max(float(each.x[-1]) for each in lines)
    across, down = _scale(0, right, LEFT, WIDTH - RIGHT), _scale(bottom, top, HEIGHT - BOTTOM, TOP)
    drawn = [_grid(ticks(bottom, top), ticks(0, right), across, down)]
    for each in lines:
        drawn += _line(each, across, down, bottom, top)
    names = [tag("span", tag("i", class_=f"key {each.kind}"), each.name) for each in lines]
    legend = tag("figcaption", tag("b", title), *(names if len(lines) > 1 or lines[0].name else ()))
    return tag("figure", legend, svg(title, *drawn), class_="chart")


def svg(title: str, *children: str, width: int = WIDTH, height: int = HEIGHT) -> Markup:
    """A drawing of `width` x `height` units, as wide as its place."""
    return tag("svg", *children, viewBox=f"0 0 {width} {height}", role="img", aria_label=title)


def _upper(line: Line) -> float:
    """The greatest value, less the spikes of a band's first steps that would flatten all the rest."""
    band = line.y if line.high is None else line.high
    return float(max(np.max(line.y), np.quantile(band, 0.98)))


def _lower(line: Line) -> float:
    return float(np.min(line.y if line.low is None else line.low))


def _scale(low: float, high: float, first: float, last: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: round(first + (float(value) - low) / span * (last - first), 1)


def _grid(rows: Sequence[float], columns: Sequence[float], across: Callable, down: Callable) -> Markup:
    parts = []
    for value in rows:
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=down(value), y2=down(value), class_="grid"))
        parts.append(tag("text", short(value), x=LEFT - 6, y=down(value) + 4, text_anchor="end"))
    for value in columns:
        anchor = "end" if across(value) > WIDTH - RIGHT - 14 else "middle"
        parts.append(tag("text", short(value), x=across(value), y=HEIGHT - 8, text_anchor=anchor))
    return join(*parts)


def _line(line: Line, across: Callable, down: Callable, bottom: float, top: float) -> list[Markup]:
    def points(values: Sequence[float] | np.ndarray) -> list[str]:
        limited = np.clip(values, bottom, top)
        return [f"{across(x)},{down(y)}" for x, y in zip(line.x, limited, strict=True)]

    parts = []
    if line.low is not None and line.high is not None:
        around = [*points(line.high), *reversed(points(line.low))]
        parts.append(tag("polygon", points=" ".join(around), class_=f"band {line.kind}"))
    parts.append(tag("polyline", points=" ".join(points(line.y)), class_=f"line {line.kind}"))
    if line.dots:
        for place in points(line.y):
            x, y = place.split(",")
            parts.append(tag("circle", cx=x, cy=y, r=3.2, class_=f"dot {line.kind}"))
    return parts
