"""The table that `train --folds` and `train --seeds` print."""

import math
from itertools import pairwise

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastfcn.cli.tables.narrow_terminals import fit
from fastfcn.training.repeats import SUMMARY, RepeatedResult, Statistics


def repeats_table(result: RepeatedResult, console: Console) -> Table:
    """One column per training and one for mean and standard deviation; one row for mIoU and one per class.

    Where the console is too narrow, the columns of single trainings are left out.
    """
    names = list(result.runs)
    table = Table(
        title=Text("IoU on the validation images, in percent", "bold"),
        title_justify="left",
        caption=Text(f"Weights and scores of every training: {result.folder / SUMMARY}"),
        caption_justify="left",
    )
    table.add_column("class", overflow="fold")
    for header in [*map(_short, names), "mean ± std"]:
        table.add_column(header, justify="right", no_wrap=True)
    rows = [("mIoU", [result.scores[name]["miou"] for name in names], result.miou)]
    for label, values in result.classes.items():
        rows.append((label, [result.scores[name]["classes"][label]["iou"] for name in names], values))
    for label, singles, values in rows:
        cells = ["-" if value is None else f"{value:.2f}" for value in singles]
        table.add_row(Text(label), *cells, _with_deviation(values), style="bold" if label == "mIoU" else None)
    return fit(table, console, range(len(names), 0, -1))


def _short(name: str) -> str:
    """ "fold-2-of-5-seed-1" -> "fold 2, seed 1"."""
    parts = name.split("-")
    return ", ".join(f"{word} {value}" for word, value in pairwise(parts) if word in ("fold", "seed"))


def _with_deviation(values: Statistics) -> str:
    if math.isnan(values.mean):
        return "-"
    return f"{values.mean:.2f}" + ("" if math.isnan(values.deviation) else f" ± {values.deviation:.2f}")
