"""Scores as JSON, as a table for a terminal, and in a line."""

import math

import numpy as np
from rich.table import Table

from fastfcn.data.description import DataSetDescription
from fastfcn.metrics import Scores


def as_json(scores: Scores, about: DataSetDescription) -> dict:
    """Scores as JSON: `miou`, `mean_accuracy`, `pixel_accuracy` (0-100), and `classes` by name; nan becomes null.

    `final_score` (0-1) is the mean of pixel accuracy and mIoU, by which the scene parsing challenge on ADE20K ranks;
    0.5584 of the FastFCN paper (arXiv:1903.11816) is one, on the challenge's test set.
    """
    columns = zip(about.classes, scores.iou, scores.accuracy, scores.pixels, strict=True)
    return {
        "miou": _number(scores.miou),
        "mean_accuracy": _number(scores.mean_accuracy),
        "pixel_accuracy": _number(scores.pixel_accuracy),
        "final_score": _number((scores.pixel_accuracy + scores.miou) / 200),
        "classes": {
            each.name: {"iou": _number(iou), "accuracy": _number(accuracy), "pixels": int(pixels)}
            for each, iou, accuracy, pixels in columns
        },
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 4)


def score_table(scores: Scores, about: DataSetDescription, split: str) -> Table:
    """Per-class table with a bar to look at; a class that the split does not hold says so instead of nan."""
    table = Table(title=f"{about.title}: {split}", caption=summary(scores), title_justify="left")
    for name, side in (
        ("class", "left"),
        ("IoU", "right"),
        ("", "left"),
        ("accuracy", "right"),
        ("share", "right"),
    ):
        table.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
    total = max(int(scores.pixels.sum()), 1)
    for index, each in enumerate(about.classes):
        swatch = "[rgb({},{},{})]■[/] ".format(*each.color)
        iou, accuracy, pixels = scores.iou[index], scores.accuracy[index], scores.pixels[index]
        if not pixels:
            wrong = "" if np.isnan(iou) else ", but predicted"
            table.add_row(swatch + each.name, "", f"[dim]0 pixels in {split}{wrong}[/]", "", "")
            continue
        bar = "█" * round(iou / 5)
        table.add_row(swatch + each.name, f"{iou:.2f}", f"[green]{bar}[/]", f"{accuracy:.2f}", f"{pixels / total:.2%}")
    return table


def summary(scores: Scores) -> str:
    """The three figures in a line, in percent."""
    return (
        f"mIoU {scores.miou:.2f}   mean accuracy {scores.mean_accuracy:.2f}   "
        f"pixel accuracy {scores.pixel_accuracy:.2f}"
    )
