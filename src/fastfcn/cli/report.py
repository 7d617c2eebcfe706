"""The verb that makes a page to read."""

from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.options import Accelerator, Precision, Workers
from fastfcn.cli.output import plain, say


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    data: Annotated[Path | None, typer.Option(help="Folder of the data set; else where the run had it.")] = None,
    against: Annotated[Path | None, typer.Option(metavar="RUN", help="A second run, shown side by side.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Page to write; else RUN/report.html.")] = None,
    split: Annotated[str | None, typer.Option(help="Split to score; by default the recipe's val split.")] = None,
    tta: Annotated[bool, typer.Option("--tta", help="Score with several scales and flips.")] = False,
    workers: Workers = None,
    precision: Precision = "32-true",
    accelerator: Accelerator = "auto",
) -> None:
    """Write all there is to know of a run into one HTML file: curves, classes, calibration, errors, images.

    Without the data at hand it tells what the run recorded.

    [dim]fastfcn report runs/camvid --data CamVid\n
    fastfcn report runs/camvid --against runs/slim --out compared.html[/]
    """
    from fastfcn.report.report import report as write_report
    from fastfcn.utils.machine import Machine

    machine = Machine(accelerator, 1, 1, workers, precision)
    target, missing = write_report(run, machine, data, against, out, split, tta)
    for line in missing:
        say(f"[yellow]{plain(line)}[/]")
    say(f"Wrote {plain(str(target))}. Open it in any browser.")
