"""Verbs that use a weights file."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.options import Accelerator, Changes, Data, Devices, Precision, Workers
from fastfcn.cli.screen import out_console, print_error, say


def evaluate(
    weights: Annotated[Path, typer.Argument(help="A weights file.")],
    data: Data,
    changes: Changes = None,
    split: Annotated[str | None, typer.Option(help="Split to score; by default the recipe's val split.")] = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Multi-scale and flip testing, as the recipe's eval says.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the scores here.")
    ] = None,
    devices: Devices = 1,
    workers: Workers = None,
    precision: Precision = "32-true",
    accelerator: Accelerator = "auto",
) -> None:
    """Score a weights file at the original resolution: mIoU, accuracies and a table of classes.

    [dim]fastfcn evaluate runs/camvid/weights.safetensors --data CamVid --tta --json scores.json[/]
    """
    from fastfcn.evaluate import as_json, score_table
    from fastfcn.evaluate import evaluate as evaluate_weights
    from fastfcn.files import make_folder, write_text
    from fastfcn.machine import Machine

    if json_file:
        make_folder(json_file.parent)  # what is wrong with it is said before the work
    machine = Machine(accelerator, devices, 1, workers, precision)
    scores, about, split = evaluate_weights(weights, data, machine, split, tta, changes or [])
    if not machine.first_process:
        return
    out_console.print(score_table(scores, about, split))
    if json_file:
        write_text(json_file, json.dumps(as_json(scores, about), indent=2) + "\n")


def predict(
    weights: Annotated[Path, typer.Argument(help="A weights file.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Images, folders or patterns ('a/*.jpg').")],
    out: Annotated[Path, typer.Option(help="Folder for NAME.png (ids), NAME_overlay.jpg and legend.png.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
) -> None:
    """Colour in pictures. A broken image is reported and skipped; the exit code is 1 then.

    [dim]fastfcn predict runs/camvid/weights.safetensors photos --out coloured[/]
    """
    from fastfcn.predict import find_images, load
    from fastfcn.predict import predict as predict_images
    from fastfcn.progress import counted

    images = find_images(inputs)
    results = list(counted(predict_images(load(weights, device), images, out), len(images), "Predicting"))
    errors = [error for error in results if error]
    for error in errors:
        print_error(error)
    say(f"{len(images) - len(errors)} of {len(images)} images coloured in; pictures are in {out}.")
    if errors:
        raise typer.Exit(1)
