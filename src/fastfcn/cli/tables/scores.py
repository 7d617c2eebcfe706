"""The table of scores per class that `evaluate` and `demo` print."""

import numpy as np
from rich.table import Table

from fastfcn.evaluation.scores import EvaluationResult, summary

COLUMNS = (("class", "left"), ("IoU", "right"), ("", "left"), ("accuracy", "right"), ("share", "right"))


def score_table(result: EvaluationResult) -> Table:
    """One row per class: IoU with a bar, accuracy, share of pixels; a class without pixels is marked instead of nan."""
    scores, split = result.scores, result.split
    table = Table(title=f"{result.description.title}: {split}", caption=summary(scores), title_justify="left")
    for name, side in COLUMNS:
        table.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
    total = max(int(scores.pixels.sum()), 1)
    columns = zip(result.description.classes, scores.iou, scores.accuracy, scores.pixels, strict=True)
    for entry, iou, accuracy, pixels in columns:
        name = "[rgb({},{},{})]■[/] ".format(*entry.color) + entry.name
        if not pixels:
            wrong = "" if np.isnan(iou) else ", but predicted"
            table.add_row(name, "", f"[dim]0 pixels in {split}{wrong}[/]", "", "")
            continue
        bar = "█" * round(iou / 5)
        table.add_row(name, f"{iou:.2f}", f"[green]{bar}[/]", f"{accuracy:.2f}", f"{pixels / total:.2%}")
    return table
