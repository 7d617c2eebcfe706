"""`fastfcn evaluate`: mIoU of a weights file on a dataset."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.options import Accelerator, Changes, Data, Devices, Precision, Trusted, Workers
from fastfcn.cli.output import out_console


def evaluate(
    weights: Annotated[str, typer.Argument(help="A weights file, an exported one, or hf://USER/NAME.")],
    data: Data,
    changes: Changes = None,
    split: Annotated[str | None, typer.Option(help="Split to score; by default the recipe's val split.")] = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Multi-scale and flip testing, as the recipe's eval says.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the scores here.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page with intervals, calibration, images: .html")
    ] = None,
    devices: Devices = 1,
    workers: Workers = None,
    precision: Precision = "32-true",
    accelerator: Accelerator = "auto",
    trusted: Trusted = False,
) -> None:
    """Score a weights file at the original resolution: mIoU, accuracies and a table of classes.

    [dim]fastfcn evaluate runs/camvid/weights.safetensors --data CamVid --tta --json scores.json\n
    fastfcn evaluate runs/camvid/weights.safetensors --data CamVid --report scores.html[/]
    """
    from fastfcn.cli.tables.scores import score_table
    from fastfcn.evaluation.evaluate import evaluate as evaluate_weights
    from fastfcn.report.report import evaluate_with_report
    from fastfcn.utils.files import make_folder, write_text
    from fastfcn.utils.machine import Machine

    for file in filter(None, (json_file, report)):
        make_folder(file.parent)  # what is wrong with it is said before the work
    machine = Machine(accelerator, devices, 1, workers, precision)
    if report:
        result = evaluate_with_report(weights, data, machine, report, split, tta, changes or [], trusted)
    else:
        result = evaluate_weights(weights, data, machine, split, tta, changes or [], trusted)
    if not machine.first_process:
        return
    out_console.print(score_table(result))
    if json_file:
        write_text(json_file, json.dumps(result.as_json(), indent=2) + "\n")
