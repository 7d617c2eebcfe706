"""`fastfcn evaluate`: mIoU of a weights file on a dataset."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.options import (
    MODEL_HELP,
    Accelerator,
    Changes,
    Data,
    Devices,
    InputSize,
    Overlap,
    Precision,
    Split,
    Tile,
    TileContext,
    Trusted,
    Tta,
    Window,
    Workers,
    check_weights,
)
from fastfcn.errors import UserError
from fastfcn.utils.console import out_console


def evaluate(
    weights: Annotated[str, typer.Argument(metavar="WEIGHTS", help=MODEL_HELP)],
    data: Data,
    changes: Changes = None,
    split: Split = None,
    size: InputSize = None,
    tta: Tta = False,
    window: Window = None,
    overlap: Overlap = None,
    tile: Tile = None,
    context: TileContext = "window",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the scores to FILE.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also write an HTML report to FILE: confidence intervals, calibration, images."
        ),
    ] = None,
    devices: Devices = 1,
    workers: Workers = None,
    precision: Precision = "32-true",
    accelerator: Accelerator = "auto",
    trusted: Trusted = False,
) -> None:
    """Evaluate a weights file: mIoU, pixel accuracy, mean accuracy, and IoU per class, at full resolution.

    [dim]fastfcn evaluate runs/camvid/weights.safetensors --data CamVid --tta --json scores.json\n
    fastfcn evaluate runs/camvid/weights.safetensors --data CamVid --report scores.html[/]
    """
    check_weights(weights)
    from fastfcn.cli.tables.scores import score_table
    from fastfcn.evaluation.evaluate import evaluate as evaluate_weights
    from fastfcn.recipes.inference import check_sizes, check_tiles
    from fastfcn.report.report import evaluate_with_report
    from fastfcn.utils.files import make_folder, write_text
    from fastfcn.utils.machine import Machine

    for file in filter(None, (json_file, report)):
        make_folder(file.parent)  # report an unusable path before the evaluation
    check_sizes(size, window)
    check_tiles(size, tta, window, overlap, tile, context)
    if report and (tile or overlap is not None):
        raise UserError("Reports cannot be made with --tile and --overlap.", "Leave them out, or --report.")
    machine = Machine(accelerator, devices, 1, workers, precision)
    if report:
        result = evaluate_with_report(weights, data, machine, report, split, tta, changes or [], trusted, size, window)
    else:
        result = evaluate_weights(
            weights, data, machine, split, tta, changes or [], trusted, size, window, overlap, tile, context
        )
    if not machine.first_process:
        return
    try:
        if json_file:
            write_text(json_file, json.dumps(result.as_json(), indent=2) + "\n")
    finally:  # a full disk must not cost the scores
        out_console.print(score_table(result, out_console))
