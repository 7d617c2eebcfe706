"""The table of scores per class that `evaluate` and `demo` print."""

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastfcn.cli.tables.narrow_terminals import fit
from fastfcn.evaluation.scores import EvaluationResult, summary
from fastfcn.utils.console import styled, swatch

COLUMNS = (("class", "left"), ("IoU", "right"), ("", "left"), ("accuracy", "right"), ("share", "right"))
OPTIONAL = (2, 4, 3)  # columns that a narrow terminal leaves out, in this order


def score_table(result: EvaluationResult, console: Console) -> Table:
    """One row per class: IoU with a bar, accuracy, share of pixels; a class without pixels is marked instead of nan.

    Where the console is too narrow, the bars are left out, then share and accuracy; long names are wrapped.
    """
    scores, split = result.scores, result.split
    table = Table(title=Text(f"{result.description.title}: {split}"), caption=summary(scores), title_justify="left")
    for name, side in COLUMNS:
        table.add_column(name, justify=side, no_wrap=name != "class", overflow="fold")  # type: ignore[arg-type]
    total = max(int(scores.pixels.sum()), 1)
    columns = zip(result.description.classes, scores.iou, scores.accuracy, scores.pixels, strict=True)
    for entry, iou, accuracy, pixels in columns:
        name = styled("{} {}", swatch(entry.color), entry.name)
        if not pixels:
            wrong = "" if np.isnan(iou) else ", but predicted"
            table.add_row(name, Text("none", "dim"), styled("[dim]0 pixels in {}{}[/]", split, wrong), "", "")
            continue
        bar = Text("█" * round(iou / 5), "green")
        table.add_row(name, f"{iou:.2f}", bar, f"{accuracy:.2f}", f"{pixels / total:.2%}")
    return fit(table, console, OPTIONAL)
