"""`fastfcn report`."""

from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.options import Accelerator, Precision, Workers
from fastfcn.utils.console import say


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help="Dataset folder or URL (default: the one recorded by the run).")
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN", help="A second run to compare with; repeat it for one report per run."),
    ] = None,
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

    machine = Machine(accelerator, 1, 1, workers, precision)
    for other, file in _targets(run, against or [], out):
        target, missing = write_report(run, machine, data, other, file, split, tta)
        for line in missing:
            say("[yellow]{}[/]", line)
        say("Wrote {}. Open it in a browser.", target)


def _targets(run: Path, against: list[Path], out: Path | None) -> list[tuple[Path | None, Path | None]]:
    """The runs to compare with, each with the file of its report: several are named after the runs."""
    if len(against) < 2:
        return [(against[0] if against else None, out)]
    file = out or run / "report.html"
    names = [path.resolve().name for path in against]
    unique = [name if names.count(name) == 1 else f"{name}_{number}" for number, name in enumerate(names, start=1)]
    return [
        (other, file.with_name(f"{file.stem}_vs_{name}{file.suffix}"))
        for other, name in zip(against, unique, strict=True)
    ]
