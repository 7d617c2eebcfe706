"""Data of the sortable table of classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastfcn.evaluation.analysis.analyze import Analysis
from fastfcn.evaluation.analysis.bootstrap import paired_difference
from fastfcn.report.filters import compact, interval, number, signed
from fastfcn.report.run_report import RunReport

NAN = float("nan")


class Bar(NamedTuple):
    """A bar of `value` percent in the color of `series`, with an interval from `low` to `high` (nan: none)."""

    series: str
    value: float
    low: float = NAN
    high: float = NAN


@dataclass(frozen=True)
class Cell:
    """`text` in the CSS class `style`, or `bars` instead; `sort_key` is empty for an undefined value."""

    sort_key: str
    text: str = ""
    style: str = ""
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True)
class Column:
    """A column; `help` explains it, `kind` is "number" or "bars", `cells` are in the order of the classes."""

    title: str
    help: str
    cells: list[Cell]
    kind: str = "number"


@dataclass(frozen=True)
class ClassTable:
    """`classes`: (name, RGB color or None) of each row."""

    classes: list[tuple[str, Sequence[int] | None]]
    columns: list[Column]


def class_table(runs: list[RunReport]) -> ClassTable | None:
    """Metrics of every class from the analysis, else from recorded scores; None without either."""
    first = runs[0].analysis
    second = runs[1].analysis if len(runs) > 1 else None
    if first is None:
        return _recorded_table([run for run in runs if run.history.scores])
    columns = _columns(first) if second is None else _comparison(first, second, [run.name for run in runs])
    return ClassTable([(label.name, label.color) for label in first.description.classes], columns)


def _columns(analysis: Analysis) -> list[Column]:
    scores, intervals, split = analysis.scores, analysis.intervals, analysis.split
    shares = 100 * scores.pixels / max(int(scores.pixels.sum()), 1)
    widths = intervals.high - intervals.low
    return [
        _numbers("IoU", "Intersection over union, percent", scores.iou),
        _bar_column("Bar: IoU; line: 95 % bootstrap interval", [("first", analysis)]),
        _texts("95 % interval", "Bootstrap over images", list(map(interval, intervals.low, intervals.high)), widths),
        _numbers("Dice", "2 IoU / (1 + IoU), percent", analysis.dice),
        _numbers(
            "Boundary IoU", "IoU of the pixels within 2 % of the image diagonal of an edge", analysis.boundary_iou
        ),
        _numbers("Recall", "Share of the class's labeled pixels that are predicted correctly", scores.accuracy),
        _numbers("Precision", "Share of the class's predicted pixels that are correct", analysis.precision),
        _texts("Pixels", f"Share of the labeled pixels of {split}", [f"{share:.2f} %" for share in shares], shares),
        _texts("Images", f"Images of {split} that contain the class", analysis.image_counts, analysis.image_counts),
    ]


def _comparison(first: Analysis, second: Analysis, names: list[str]) -> list[Column]:
    low, high, _ = paired_difference(first.intervals, second.intervals)
    difference = first.scores.iou - second.scores.iou
    bounds = [f"{signed(a)} … {signed(b)}" if not np.isnan(a) else "–" for a, b in zip(low, high, strict=True)]
    changes = [
        Cell(_sort_key(value), signed(value), significance(a, b))
        for value, a, b in zip(difference, low, high, strict=True)
    ]
    return [
        _numbers("IoU", f"IoU of {names[0]}, percent", first.scores.iou),
        _numbers("vs.", f"IoU of {names[1]}, percent", second.scores.iou),
        _bar_column("Bars: IoU of both; lines: 95 % bootstrap intervals", [("first", first), ("second", second)]),
        Column("Difference", "In points; colored where the interval excludes zero", changes),
        _texts("95 % interval", "Of the difference, on the same bootstrap samples", bounds, high - low),
        _numbers("Boundary IoU", f"Of {names[0]}, percent", first.boundary_iou),
        _numbers("vs.", f"Of {names[1]}, percent", second.boundary_iou),
    ]


def significance(low: float, high: float) -> str:
    """CSS class of a difference with this interval: "better", "worse", or "even" if the interval contains zero."""
    return "better" if low > 0 else "worse" if high < 0 else "even"


def _bar_column(help: str, analyses: list[tuple[str, Analysis]]) -> Column:
    """Bars of the IoU of each class; classes without labeled pixels get a note instead."""
    first = analyses[0][1]
    cells = []
    for index, pixels in enumerate(first.scores.pixels):
        bars = tuple(
            Bar(series, *(values[index] for values in (run.scores.iou, run.intervals.low, run.intervals.high)))
            for series, run in analyses
        )
        predicted = any(not np.isnan(bar.value) for bar in bars)
        note = f"0 pixels in {first.split}" + (", but predicted" if predicted else "")
        key = _sort_key(first.scores.iou[index])
        cells.append(Cell(key, bars=bars) if pixels else Cell(key, note, "note"))
    return Column("IoU with interval", help, cells, "bars")


def _recorded_table(runs: list[RunReport]) -> ClassTable | None:
    if not runs:
        return None
    tables: list[dict[str, Any]] = [run.history.scores["classes"] for run in runs if run.history.scores]
    names = list(tables[0])
    columns = []
    for run, table, series in zip(runs, tables, ("first", "second"), strict=False):
        of = f" of {run.name}" if len(runs) > 1 else ""
        iou = [_value(table.get(name, {}).get("iou")) for name in names]
        recall = [_value(table.get(name, {}).get("accuracy")) for name in names]
        bars = [Cell(_sort_key(value), bars=(Bar(series, value),)) for value in iou]
        columns += [
            _numbers(f"IoU{of}", "Intersection over union, percent", iou),
            Column("", "IoU", bars, "bars"),
            _numbers("Recall", "Share of the class's labeled pixels that are predicted correctly", recall),
        ]
    pixels = [tables[0][name].get("pixels", 0) for name in names]
    columns.append(_texts("Pixels", "Labeled pixels", list(map(compact, pixels)), pixels))
    colors = runs[0].history.colors()
    return ClassTable([(name, colors.get(name)) for name in names], columns)


def _value(recorded: float | None) -> float:
    return NAN if recorded is None else recorded


def _numbers(title: str, help: str, values: Sequence[float] | np.ndarray) -> Column:
    return _texts(title, help, list(map(number, values)), values)


def _texts(title: str, help: str, texts: Sequence[Any] | np.ndarray, values: Sequence[float] | np.ndarray) -> Column:
    return Column(title, help, [Cell(_sort_key(value), str(text)) for text, value in zip(texts, values, strict=True)])


def _sort_key(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}"
