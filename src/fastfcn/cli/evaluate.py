"""Verbs that use a weights file."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.options import Accelerator, Changes, Data, Devices, Precision, Trusted, Workers
from fastfcn.cli.output import out_console
from fastfcn.errors import UserError


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
    from fastfcn.evaluation.evaluate import evaluate as evaluate_weights
    from fastfcn.evaluation.score_tables import as_json, score_table
    from fastfcn.report.report import evaluate_with_report
    from fastfcn.utils.files import make_folder, write_text
    from fastfcn.utils.machine import Machine

    for file in filter(None, (json_file, report)):
        make_folder(file.parent)  # what is wrong with it is said before the work
    machine = Machine(accelerator, devices, 1, workers, precision)
    if report:
        scores, about, split = evaluate_with_report(weights, data, machine, report, split, tta, changes or [], trusted)
    else:
        scores, about, split = evaluate_weights(weights, data, machine, split, tta, changes or [], trusted)
    if not machine.first_process:
        return
    out_console.print(score_table(scores, about, split))
    if json_file:
        write_text(json_file, json.dumps(as_json(scores, about), indent=2) + "\n")


def predict(
    weights: Annotated[str, typer.Argument(help="A weights file, an exported one, or hf://USER/NAME.")],
    out: Annotated[Path, typer.Option(help="Folder for what is written.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT...", help="Images, videos, folders, patterns ('a/*.jpg'), webcam."),
    ] = None,
    labels: Annotated[
        bool | None, typer.Option("--labels/--no-labels", help="Write class maps (ids); else only of images.")
    ] = None,
    overlay: Annotated[bool, typer.Option(help="Write the pictures with the classes laid over.")] = True,
    opacity: Annotated[float, typer.Option(min=0, max=1, help="Of the classes laid over.")] = 0.5,
    every: Annotated[int, typer.Option(min=1, help="In a video, let the network see each N-th frame.")] = 1,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Stop a video or webcam after so long.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    precision: Precision = "32-true",
    server: Annotated[str | None, typer.Option(metavar="URL", help="A running service, in place of WEIGHTS.")] = None,
    trusted: Trusted = False,
) -> None:
    """Colour in pictures and videos. What cannot be read is reported and skipped; the exit code is 1 then.

    Of an image: NAME.png (ids) and NAME_overlay.jpg.

    Of a video: NAME_overlay.mp4, sound and frame rate kept; with --labels a folder NAME_labels.

    Videos need: pip install 'fastfcn\\[video]'. A webcam records until Ctrl-C.

    [dim]fastfcn predict runs/camvid/weights.safetensors photos 'more/*.jpg' --out coloured\n
    fastfcn predict runs/camvid/weights.safetensors drive.mp4 --out coloured --every 3 --opacity 0.4\n
    fastfcn predict hf://USER/NAME webcam --out recorded --seconds 20\n
    fastfcn predict --server http://127.0.0.1:8000 photos --out coloured[/]
    """
    from fastfcn.cli.predict_progress import run
    from fastfcn.cli.serve import predict_through
    from fastfcn.prediction.load import Job, Settings, find_inputs, load

    inputs = [weights, *(inputs or [])] if server else inputs or []  # with a service there are no weights to name
    if not inputs:
        raise UserError("There is nothing to predict.", "Name images, folders or patterns after the weights file.")
    job = Job(find_inputs(inputs), out, Settings(overlay, labels, opacity, every, seconds))
    wrong = predict_through(server, job) if server else run(job, load(weights, device, trusted, precision))
    if wrong:
        raise typer.Exit(1)
