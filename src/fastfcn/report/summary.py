"""Key figures of a report as tiles, and the facts that its summary states in sentences."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastfcn.evaluation.analysis.analyze import Analysis
from fastfcn.evaluation.analysis.bootstrap import paired_difference
from fastfcn.report.class_table import significance
from fastfcn.report.error_analysis import Confusion, largest_confusions
from fastfcn.report.filters import interval, number
from fastfcn.report.run_report import RunReport

NAMED_CLASSES = 3  # lowest and highest classes that are named
MISCALIBRATED = 0.05  # ECE, and distance of the log temperature from 0, from which calibration is called off
ADVICE = {  # by the most frequent error type
    "boundary": "finer feature maps, larger test images or cleaner masks should help most",
    "confusion": "more training examples of the confused classes, or longer training, should help most",
    "missed": "class weights, larger crops, more training examples or longer training should help most",
}


class Difference(NamedTuple):
    """mIoU of the first run minus the second's, in points, with its interval; `verdict`: better, worse or even."""

    miou: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class Summary:
    """Facts of the summary. `lowest`, `highest`: (class, IoU); `calibration`: what to say about it, or empty."""

    difference: Difference | None
    lowest: list[tuple[str, float]]
    highest: list[tuple[str, float]]
    confusion: Confusion | None
    error_shares: dict[str, float]  # of the wrong pixels, 0-1, by error type; empty if no pixel is wrong
    advice: str
    calibration: str
    absent: list[str]  # classes without labeled pixels


def summarize(runs: list[RunReport]) -> Summary | None:
    """The facts about the first run, and its difference to the second; None without an analysis."""
    first = runs[0].analysis
    if first is None:
        return None
    second = runs[1].analysis if len(runs) > 1 else None
    lowest, highest = _extreme_classes(first)
    errors = dict(zip(("boundary", "confusion", "missed"), first.error_counts.sum(0).tolist(), strict=True))
    total = sum(errors.values())
    names, pixels = first.description.class_names, first.scores.pixels
    return Summary(
        _difference(first, second) if second else None,
        lowest,
        highest,
        next(iter(largest_confusions(first)), None),
        {kind: count / total for kind, count in errors.items()} if total else {},
        ADVICE[max(errors, key=errors.__getitem__)],
        _calibration(first),
        [name for name, count in zip(names, pixels, strict=True) if not count],
    )


def _difference(first: Analysis, second: Analysis) -> Difference:
    _, _, (low, high) = paired_difference(first.intervals, second.intervals)
    return Difference(first.scores.miou - second.scores.miou, low, high, significance(low, high))


def _extreme_classes(analysis: Analysis) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """(class, IoU) of the classes with the lowest and with the highest IoU; both empty for fewer than two classes."""
    iou, names = analysis.scores.iou, analysis.description.class_names
    labeled = [index for index in np.argsort(iou, kind="stable").tolist() if analysis.scores.pixels[index]]
    count = min(NAMED_CLASSES, len(labeled) // 2)
    pairs = [(names[index], float(iou[index])) for index in labeled]
    return pairs[:count], pairs[::-1][:count]


def _calibration(analysis: Analysis) -> str:
    """good, unfixable (no temperature improves it), overconfident or underconfident; empty if not measured."""
    scaling, ece = analysis.temperature_scaling, analysis.reliability.ece
    if scaling is None:
        return ""
    if abs(np.log(scaling.temperature)) < MISCALIBRATED and ece < MISCALIBRATED:
        return "good"
    if scaling.reliability.ece >= scaling.ece:
        return "unfixable"
    return "overconfident" if scaling.temperature > 1 else "underconfident"


class Tile(NamedTuple):
    """A key figure; `other` is the second run's value, if any."""

    title: str
    value: str
    note: str
    other: str = ""


def tiles(runs: list[RunReport]) -> list[Tile]:
    """Key figures of the first run, with the second run's values."""
    first, *others = (_tiles(run) for run in runs)
    if not others:
        return first
    return [tile._replace(other=other.value) for tile, other in zip(first, others[0], strict=False)]


def _tiles(run: RunReport) -> list[Tile]:
    analysis, recorded = run.analysis, run.history.scores or {}
    if analysis is None:
        names = (("mIoU", "miou"), ("Mean accuracy", "mean_accuracy"), ("Pixel accuracy", "pixel_accuracy"))
        source = f"from {run.history.scores_source}" if run.history.scores_source else ""
        return [Tile(title, number(recorded.get(key)), source) for title, key in names]
    scores, scaling, speed = analysis.scores, analysis.temperature_scaling, analysis.speed
    return [
        Tile("mIoU", number(scores.miou), f"95 %: {interval(*analysis.intervals.miou)}"),
        Tile("Pixel accuracy", number(scores.pixel_accuracy), f"class mean {number(scores.mean_accuracy)}"),
        Tile("Dice", number(_mean(analysis.dice)), "class mean"),
        Tile("Boundary IoU", number(_mean(analysis.boundary_iou)), "class mean"),
        Tile("ECE", f"{number(100 * analysis.reliability.ece)} %",
             f"temperature {scaling.temperature:.2f}" if scaling else ""),
        Tile("Speed", f"{1000 / speed.milliseconds:.3g}/s", f"{speed.milliseconds:.3g} ms per image"),
    ]  # fmt: skip


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
