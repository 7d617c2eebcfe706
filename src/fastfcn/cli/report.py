"""`fastfcn report`."""

from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.options import Accelerator, Precision, Workers
from fastfcn.errors import UserError
from fastfcn.utils.console import say


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    data: Annotated[Path | None, typer.Option(help="Dataset folder (default: the one recorded by the run).")] = None,
    against: Annotated[list[Path] | None, typer.Option(metavar="RUN", help="A second run to compare with.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="HTML file (default: RUN/report.html).")] = None,
    split: Annotated[str | None, typer.Option(help="Split to evaluate (default: the recipe's val split).")] = None,
    tta: Annotated[bool, typer.Option("--tta", help="Average predictions over several scales and flips.")] = False,
    workers: Workers = None,
    precision: Precision = "32-true",
    accelerator: Accelerator = "auto",
) -> None:
    """Write one HTML file about a run: training curves, class metrics, calibration, errors and example images.

    Without the dataset or the weights, the report shows only what the run recorded.

    [dim]fastfcn report runs/camvid --data CamVid\n
    fastfcn report runs/camvid --against runs/slim --out compared.html[/]
    """
    from fastfcn.report.report import report as write_report
    from fastfcn.utils.machine import Machine

    if against and len(against) > 1:
        raise UserError("--against was given more than once.", "A report compares two runs: RUN --against OTHER.")
    machine = Machine(accelerator, 1, 1, workers, precision)
    target, missing = write_report(run, machine, data, against[0] if against else None, out, split, tta)
    for line in missing:
        say("[yellow]{}[/]", line)
    say("Wrote {}. Open it in a browser.", target)
