"""`fastfcn export`: write a network for another runtime."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastfcn.cli.options import WEIGHTS_HELP, JsonFile, check_weights
from fastfcn.utils.console import out_console, say, say_plain

if TYPE_CHECKING:
    from fastfcn.exporting.export import ExportResult


def export(
    weights: Annotated[str, typer.Argument(metavar="WEIGHTS", help=WEIGHTS_HELP)],
    format: Annotated[str, typer.Option("--format", help="onnx, openvino, pt2, executorch or triton.")],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="File to write: .onnx, .xml, .pt2 or .pte; for triton the folder of the repository."
        ),
    ],
    logits: Annotated[bool, typer.Option("--logits", help="Add logits as a second output.")] = False,
    scores: Annotated[bool, typer.Option("--scores", hidden=True, help="Former name of --logits.")] = False,
    sizes: Annotated[
        list[str] | None,
        typer.Option(
            "--sizes", metavar="HxW", help="Verify at this image size; repeat for more (default: four sizes)."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Dataset folder: also compare mIoU before and after export.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of --data to evaluate (default: the recipe's validation split).")
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Quantize to int8 (openvino only); needs --calibrate.")] = False,
    calibrate: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of images to calibrate int8 on.")
    ] = None,
    max_loss: Annotated[float, typer.Option(min=0, help="mIoU that int8 may lose, in points.")] = 1.0,
    force: Annotated[
        bool, typer.Option("--force", help="Write int8 even if it loses more, or without --data.")
    ] = False,
    largest: Annotated[
        str, typer.Option(metavar="HxW", help="Largest image of an executorch file, which plans memory for it.")
    ] = "512x512",
    json_file: JsonFile = None,
) -> None:
    """Export a network to another runtime and verify it: nothing is written if outputs differ from PyTorch's.

    Inputs are uint8 RGB images (batch, height, width, 3) of any size; outputs are labels (batch, height, width).

    [dim]fastfcn export weights.safetensors --format onnx --out model.onnx\n
    fastfcn export weights.safetensors --format openvino --int8 --calibrate photos --data CamVid --out model.xml[/]
    """
    check_weights(weights)
    import torch

    from fastfcn.bench.record import machine_info, rounded
    from fastfcn.cli.tables.export import verification_table
    from fastfcn.errors import UserError
    from fastfcn.exporting.export import ExportSettings
    from fastfcn.exporting.export import export as export_weights
    from fastfcn.exporting.verification import SIZES, VerificationError
    from fastfcn.recipes.inference import image_size
    from fastfcn.utils.files import make_folder, write_text
    from fastfcn.utils.provenance import command, today

    if int8 != (calibrate is not None):
        raise UserError("--int8 and --calibrate DIR must be used together.", "Add the missing one.")
    if json_file:
        make_folder(json_file.parent)  # fail before the export if the folder cannot be made
    tested_sizes = tuple(image_size(size) for size in sizes) if sizes else SIZES
    settings = ExportSettings(
        logits or scores, tested_sizes, data, split, calibrate, max_loss, force, image_size(largest)
    )
    try:
        result = export_weights(weights, format, out, settings, say_plain)
    except VerificationError as error:
        out_console.print(verification_table(error.verification, out_console))
        raise
    if json_file:
        context = {"date": today(), "command": command()}
        record = context | machine_info(torch.device("cpu")) | result.as_json()
        write_text(json_file, json.dumps(rounded(record), indent=1) + "\n")
    out_console.print(verification_table(result.verification, out_console))
    _report(result)


def _report(result: "ExportResult") -> None:
    if result.miou_before is not None:
        say("mIoU {:.2f} before export, {:.2f} after", result.miou_before, result.miou_after)
    say("Wrote {}.", result.path)
