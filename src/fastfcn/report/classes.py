"""The table of classes, with intervals, sortable."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastfcn.evaluation.analysis.bootstrap import paired_difference
from fastfcn.evaluation.analysis.collector import Findings
from fastfcn.report.account import Account
from fastfcn.report.markup import Markup, count, interval, number, signed, tag


class Column(NamedTuple):
    """Title, an explanation, and for each class what is shown and what it is sorted by."""

    title: str
    meaning: str
    cells: Sequence[str]
    values: Sequence[float] | np.ndarray
    kind: str = "number"


def class_table(accounts: list[Account]) -> Markup:
    """Every class with its figures: of what was found, else of what was recorded."""
    mine = accounts[0].findings
    if mine is None:
        return _recorded_table([each for each in accounts if each.scores])
    theirs = accounts[1].findings if len(accounts) > 1 else None
    columns = _columns(mine) if theirs is None else _compared(mine, theirs, [each.name for each in accounts])
    rows = [swatch(each.name, each.color) for each in mine.about.classes]
    return _table(rows, mine.about.class_names, columns)


def swatch(name: str, color: Sequence[int] | None = None) -> Markup:
    """A class's colour and name."""
    icon = [tag("i", class_="swatch", style="background:rgb({},{},{})".format(*color))] if color else []
    return tag("span", *icon, name, class_="class")


def _columns(found: Findings) -> list[Column]:
    scores, bounds = found.scores, found.intervals
    total = max(int(scores.pixels.sum()), 1)
    shares = 100 * scores.pixels / total
    bars = [
        _bar([("mine", iou, low, high)]) if pixels else _absent(found.split, predicted=not np.isnan(iou))
        for iou, low, high, pixels in zip(scores.iou, bounds.low, bounds.high, scores.pixels, strict=True)
    ]
    widths = bounds.high - bounds.low
    return [
        _numbers("IoU", "Intersection over union, percent", scores.iou),
        Column("with interval", "Bar: IoU; line: 95 % of resamplings of the images", bars, scores.iou, "bars"),
        Column("95 %", "Bootstrap over images", list(map(interval, bounds.low, bounds.high)), widths),
        _numbers("Dice", "2 IoU / (1 + IoU)", found.dice),
        _numbers("Boundary IoU", "IoU of what lies within 2 % of the diagonal of an edge", found.boundary_iou),
        _numbers("Found", "Share of its true pixels that were found (accuracy, recall)", scores.accuracy),
        _numbers("Right", "Share of its predicted pixels that are right (precision)", found.precision),
        Column("Share", f"Of the labelled pixels of {found.split}", [f"{each:.2f} %" for each in shares], shares),
        Column("Images", f"Images of {found.split} that hold it", [f"{each}" for each in found.holding], found.holding),
    ]


def _compared(mine: Findings, theirs: Findings, names: list[str]) -> list[Column]:
    low, high, _ = paired_difference(mine.intervals, theirs.intervals)
    first, second = mine.intervals, theirs.intervals
    bars = [
        _bar([("mine", *a), ("theirs", *b)]) if pixels else _absent(mine.split, not np.isnan([a[0], b[0]]).all())
        for a, b, pixels in zip(
            zip(mine.scores.iou, first.low, first.high, strict=True),
            zip(theirs.scores.iou, second.low, second.high, strict=True),
            mine.scores.pixels,
            strict=True,
        )
    ]
    difference = mine.scores.iou - theirs.scores.iou
    shown = [tag("span", signed(each), class_=clear(a, b)) for each, a, b in zip(difference, low, high, strict=True)]
    around = [f"{signed(a)} … {signed(b)}" if not np.isnan(a) else "–" for a, b in zip(low, high, strict=True)]
    return [
        _numbers("IoU", f"IoU of {names[0]}, percent", mine.scores.iou),
        _numbers("against", f"IoU of {names[1]}, percent", theirs.scores.iou),
        Column("with interval", "Bars: IoU of both; lines: 95 % of resamplings", bars, mine.scores.iou, "bars"),
        Column("Difference", "Coloured where the interval excludes zero", shown, difference),
        Column("95 %", "Of the difference, on the same resamplings of the images", around, high - low),
        _numbers("Boundary IoU", f"Of {names[0]}", mine.boundary_iou),
        _numbers("against", f"Of {names[1]}", theirs.boundary_iou),
    ]


def clear(low: float, high: float) -> str:
    """The colour of a difference: only one that the interval bears out has any."""
    return "better" if low > 0 else "worse" if high < 0 else "even"


def _recorded_table(accounts: list[Account]) -> Markup:
    if not accounts:
        return Markup("")
    tables = [each.scores["classes"] for each in accounts if each.scores]
    names = list(tables[0])
    columns = []
    for account, table in zip(accounts, tables, strict=True):
        of = f" of {account.name}" if len(accounts) > 1 else ""
        iou = [_value(table.get(name, {}).get("iou")) for name in names]
        kind = "theirs" if columns else "mine"
        columns += [
            _numbers(f"IoU{of}", "Percent", iou),
            Column("", "IoU", [_bar([(kind, each, np.nan, np.nan)]) for each in iou], iou, "bars"),
            _numbers("Found", "Accuracy (recall)", [_value(table.get(name, {}).get("accuracy")) for name in names]),
        ]
    pixels = [tables[0][name].get("pixels", 0) for name in names]
    columns.append(Column("Pixels", "Labelled", [count(each) for each in pixels], pixels))
    colors = accounts[0].history.colors()
    return _table([swatch(name, colors.get(name)) for name in names], names, columns)


def _value(value: float | None) -> float:
    return float("nan") if value is None else value


def _numbers(title: str, meaning: str, values: Sequence[float] | np.ndarray) -> Column:
    return Column(title, meaning, [number(each) for each in values], values)


def _table(rows: Sequence[Markup], names: Sequence[str], columns: Sequence[Column]) -> Markup:
    """A table that sorts by a click on a title."""
    head = [tag("th", tag("button", "Class", type="button"), scope="col")]
    head += [
        tag("th", tag("button", each.title, type="button", title=each.meaning), scope="col", class_=each.kind)
        for each in columns
    ]
    body = []
    for index, (row, name) in enumerate(zip(rows, names, strict=True)):
        cells = [tag("td", each.cells[index], data_v=_key(each.values[index]), class_=each.kind) for each in columns]
        body.append(tag("tr", tag("th", row, scope="row", data_v=name), *cells))
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body), class_="sortable")
    return tag("div", table, class_="scroll tall panel flush", tabindex=0)


def _key(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}"


def _bar(values: Sequence[tuple[str, float, float, float]]) -> Markup:
    """Bars of (colour, value, low, high) in percent, one below the other."""
    parts = []
    for kind, value, low, high in values:
        if np.isnan(value):
            continue
        inner = [tag("span", class_=f"fill {kind}", style=f"width:{value:.1f}%")]
        if high - low > 0.05:
            inner.append(tag("span", class_="whisker", style=f"left:{low:.1f}%;width:{max(high - low, 0.4):.1f}%"))
        parts.append(tag("span", *inner, class_="track"))
    return tag("span", *parts, class_="tracks")


def _absent(split: str, predicted: bool) -> Markup:
    return tag("small", f"0 pixels in {split}" + (", but predicted" if predicted else ""))
