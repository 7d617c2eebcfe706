"""SVG charts. Colors come from the page's style sheet, and width from the screen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from fastfcn.evaluation.analysis.calibration import Reliability

WIDTH, HEIGHT = 380, 230  # SVG units; about pixels on a phone
SERIES = ("first", "second", "third")  # CSS classes of the colors
Values = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Line:
    """Values over steps. `series`: CSS class of the color; `low`, `high`: a band behind the line; `dots`: markers."""

    series: str
    name: str
    x: Values
    y: Values
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    dots: bool = False


@dataclass(frozen=True)
class Chart:
    """A finished drawing. `legend`: (series, name) of its lines."""

    title: str
    svg: Markup
    legend: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Frame:
    """Maps data ranges to the rectangle of a plot, in SVG units."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    left: float = 46
    right: float = WIDTH - 12
    top: float = 10
    bottom: float = HEIGHT - 28

    def x(self, value: float) -> float:
        return self._scale(value, self.x_range, self.left, self.right)

    def y(self, value: float) -> float:
        return self._scale(value, self.y_range, self.bottom, self.top)

    @staticmethod
    def _scale(value: float, limits: tuple[float, float], start: float, end: float) -> float:
        span = (limits[1] - limits[0]) or 1.0
        return round(start + (float(value) - limits[0]) / span * (end - start), 1)

    def points(self, x: Values, y: Values) -> list[tuple[float, float]]:
        limited = np.clip(y, *self.y_range)
        return [(self.x(across), self.y(up)) for across, up in zip(x, limited, strict=True)]

    def rows(self, values: Sequence[float], texts: Sequence[str]) -> Markup:
        """Horizontal grid lines with labels to their left."""
        parts = []
        for value, text in zip(values, texts, strict=True):
            y = self.y(value)
            parts.append(element("line", x1=self.left, x2=self.right, y1=y, y2=y, class_="grid"))
            parts.append(element("text", text, x=self.left - 6, y=round(y + 4, 1), text_anchor="end"))
        return Markup().join(parts)

    def columns(self, values: Sequence[float], texts: Sequence[str], y: float) -> Markup:
        """Labels of the horizontal axis, at height `y`."""
        parts = []
        for value, text in zip(values, texts, strict=True):
            anchor = "end" if self.x(value) > self.right - 14 else "middle"
            parts.append(element("text", text, x=self.x(value), y=y, text_anchor=anchor))
        return Markup().join(parts)


def element(tag: str, /, *children: object, **attributes: object) -> Markup:
    """An SVG element; text and attribute values are escaped. `class_` becomes `class`, `text_anchor` `text-anchor`."""
    written = Markup().join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), written, Markup().join(map(escape, children)))


def svg(title: str, *children: Markup, width: int = WIDTH, height: int = HEIGHT) -> Markup:
    """A drawing of `width` x `height` units that scales to the width of its container."""
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(width, height, title)
    return head + Markup().join(children) + Markup("</svg>")


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers from `low` to `high`."""
    rough = max(high - low, 1e-12) / count
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def axis_label(value: float) -> str:
    """A short number for an axis: 12k, 0.002, 5e-4."""
    if value and abs(value) < 0.001:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:.6g}"


def line_chart(title: str, lines: Sequence[Line]) -> Chart | None:
    """Lines over steps in one frame that starts at 0; None if no line has points."""
    lines = [line for line in lines if len(line.x)]
    if not lines:
        return None
    top = max(_upper(line) for line in lines)
    top = top if top > 0 else 0.1
    frame = Frame((0, max(float(line.x[-1]) for line in lines)), (0, top))
    rows, columns = ticks(0, top), ticks(*frame.x_range)
    axes = frame.rows(rows, list(map(axis_label, rows)))
    axes += frame.columns(columns, list(map(axis_label, columns)), HEIGHT - 8)
    named = len(lines) > 1 or bool(lines[0].name)
    legend = tuple((line.series, line.name) for line in lines) if named else ()
    return Chart(title, svg(title, axes, *(_draw_line(line, frame) for line in lines)), legend)


def _upper(line: Line) -> float:
    """The largest value, without the spikes of a band's first steps, which would flatten everything else."""
    band = line.y if line.high is None else line.high
    return float(max(np.max(line.y), np.quantile(band, 0.98)))


def _draw_line(line: Line, frame: Frame) -> Markup:
    parts = []
    if line.low is not None and line.high is not None:
        outline = [*frame.points(line.x, line.high), *reversed(frame.points(line.x, line.low))]
        parts.append(element("polygon", points=_joined(outline), class_=f"band {line.series}"))
    points = frame.points(line.x, line.y)
    parts.append(element("polyline", points=_joined(points), class_=f"line {line.series}"))
    if line.dots:
        parts += [element("circle", cx=x, cy=y, r=3.2, class_=f"dot {line.series}") for x, y in points]
    return Markup().join(parts)


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)


RELIABILITY_SIDE, CONFIDENCE_HEIGHT = 380, 56  # the square diagram, and the histogram below it


def reliability_chart(plain: Reliability, scaled: Reliability | None, series: str) -> Markup:
    """Accuracy over confidence, the diagonal of perfect calibration, and the share of pixels in each bin.

    `plain`: without temperature scaling; `scaled`: with it, drawn as the third series.
    """
    side, height = RELIABILITY_SIDE, RELIABILITY_SIDE + CONFIDENCE_HEIGHT
    frame = Frame((0, 1), (0, 1), 46, side - 12, 12, side - 46)
    values = (0.0, 0.25, 0.5, 0.75, 1.0)
    texts = [f"{100 * value:.0f}\u00a0%" for value in values]
    parts = [frame.rows(values, texts), frame.columns(values, texts, height + 14)]
    parts.append(element("line", x1=frame.left, y1=frame.bottom, x2=frame.right, y2=frame.top, class_="ideal"))
    if scaled is not None:
        parts.append(_draw_reliability(scaled, "third", frame))
    parts.append(_draw_reliability(plain, series, frame))
    parts.append(_confidence_histogram(plain, series, frame, height))
    parts.append(element("text", "accuracy", x=frame.left + 8, y=26))
    parts.append(element("text", "confidence", x=frame.right - 4, y=side - 10, text_anchor="end"))
    return svg("Reliability: accuracy over confidence", *parts, width=side, height=height + 20)


def _draw_reliability(reliability: Reliability, series: str, frame: Frame) -> Markup:
    filled = reliability.pixels > 0
    return _draw_line(
        Line(series, "", reliability.confidence[filled], reliability.accuracy[filled], dots=True), frame
    )  # fmt: skip


def _confidence_histogram(reliability: Reliability, series: str, frame: Frame, bottom: float) -> Markup:
    shares = reliability.pixels / max(reliability.pixels.sum(), 1)
    heights = np.where(shares > 0, np.maximum(shares / max(shares.max(), 1e-9) * (CONFIDENCE_HEIGHT - 8), 1), 0)
    width = (frame.right - frame.left) / len(shares)
    lefts = [frame.left + index * width + 1 for index in range(len(shares))]
    return _bars(lefts, heights.tolist(), bottom, width - 2, series)


def histogram_chart(title: str, histograms: Sequence[tuple[str, np.ndarray]]) -> Markup:
    """Counts in equal bins from 0 to 100; bars of several (series, counts) stand next to each other."""
    most = max(int(counts.max()) for _, counts in histograms) or 1
    frame = Frame((0, 100), (0, most), 34, 372, 12, HEIGHT - 28)
    rows = [value for value in ticks(0, most, 3) if value == int(value)]
    columns = (0, 25, 50, 75, 100)
    parts = [frame.rows(rows, [f"{value:.0f}" for value in rows])]
    bin_width = (frame.right - frame.left) / len(histograms[0][1])
    bar_width = bin_width / len(histograms)
    for order, (series, counts) in enumerate(histograms):
        lefts = [frame.left + index * bin_width + order * bar_width + 0.8 for index in range(len(counts))]
        heights = (counts / most * (frame.bottom - frame.top)).tolist()
        parts.append(_bars(lefts, heights, frame.bottom, bar_width - 1.2, series))
    parts.append(frame.columns(columns, list(map(str, columns)), HEIGHT - 8))
    return svg(title, *parts)


def _bars(lefts: Sequence[float], heights: Sequence[float], bottom: float, width: float, series: str) -> Markup:
    return Markup().join(
        element("rect", x=round(left, 1), y=round(bottom - height, 1), width=round(width, 1),
                height=round(height, 1), class_=f"bar {series}")
        for left, height in zip(lefts, heights, strict=True)
        if height
    )  # fmt: skip
