"""The verb that writes a network for other runtimes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastfcn.cli.options import JsonFile
from fastfcn.cli.output import out_console, say

if TYPE_CHECKING:
    from fastfcn.exporting.export import Report


def export(
    weights: Annotated[Path, typer.Argument(help="A weights file.")],
    form: Annotated[str, typer.Option("--format", help="onnx, openvino, pt2 or executorch.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Ends in .onnx, .xml, .pt2 or .pte.")],
    scores: Annotated[bool, typer.Option("--scores", help="Scores as a second output.")] = False,
    sizes: Annotated[
        list[str] | None, typer.Option("--sizes", metavar="HxW", help="Of the proof; may be given again.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the data set: mIoU before and after.")] = None,
    split: Annotated[str | None, typer.Option(help="Of --data; by default the recipe's val split.")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Eight-bit integers (openvino); needs --calibrate.")] = False,
    calibrate: Annotated[Path | None, typer.Option(metavar="DIR", help="Images to read value ranges from.")] = None,
    max_loss: Annotated[float, typer.Option(min=0, help="Points of mIoU that int8 may cost.")] = 1.0,
    force: Annotated[bool, typer.Option("--force", help="Write int8 whatever it costs, or unmeasured.")] = False,
    largest: Annotated[str, typer.Option(metavar="HxW", help="Largest image that executorch plans for.")] = "512x512",
    json_file: JsonFile = None,
) -> None:
    """Write a network for another runtime, prove that it is the same network, or leave no file.

    uint8 RGB images (batch, height, width, 3) go in, class maps come out, at any size. --sizes names others to prove.

    [dim]fastfcn export weights.safetensors --format onnx --out model.onnx\n
    fastfcn export weights.safetensors --format openvino --int8 --calibrate photos --data CamVid --out model.xml[/]
    """
    import torch

    from fastfcn.bench.record import image_size, machine_facts, rounded
    from fastfcn.errors import UserError
    from fastfcn.exporting.export import Settings
    from fastfcn.exporting.export import export as export_weights
    from fastfcn.exporting.verification import SIZES, ProofError
    from fastfcn.exporting.verification_table import proof_table
    from fastfcn.utils.files import make_folder, write_text
    from fastfcn.utils.provenance import command, today

    if int8 != (calibrate is not None):
        raise UserError("--int8 and --calibrate DIR belong together.", "Give both, or neither.")
    if json_file:
        make_folder(json_file.parent)  # what is wrong with it is said before the work
    wanted = tuple(image_size(size) for size in sizes) if sizes else SIZES
    settings = Settings(scores, wanted, data, split, calibrate, max_loss, force, image_size(largest))
    try:
        report = export_weights(weights, form, out, settings, say)
    except ProofError as error:
        out_console.print(proof_table(error.proof))
        raise
    out_console.print(proof_table(report.proof))
    _say_report(report)
    if json_file:
        about = {"date": today(), "command": command()}
        record = about | machine_facts(torch.device("cpu")) | report.as_json()
        write_text(json_file, json.dumps(rounded(record), indent=1) + "\n")


def _say_report(report: "Report") -> None:
    if report.miou_before is not None:
        say(f"mIoU {report.miou_before:.2f} before, {report.miou_after:.2f} after")
    say(f"Wrote {report.path}.")
