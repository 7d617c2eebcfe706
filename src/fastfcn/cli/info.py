"""`fastfcn info`: what a weights file or an exported file contains."""

import json
from typing import Annotated

import typer

from fastfcn.cli.options import MODEL_HELP, check_weights
from fastfcn.utils.console import out_console


def info(
    weights: Annotated[str, typer.Argument(metavar="WEIGHTS", help=MODEL_HELP)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Describe a weights file or an exported file: recipe, network, inference settings, dataset, score, size, classes.

    [dim]fastfcn info runs/camvid/weights.safetensors\n
    fastfcn info model.onnx --json > model.json[/]
    """
    check_weights(weights)
    from fastfcn.cli.tables.info import show_info
    from fastfcn.prediction.info import info as read_info
    from fastfcn.weights.locate import local_file

    description = read_info(local_file(weights))
    if as_json:
        out_console.file.write(json.dumps(description, indent=1) + "\n")
    else:
        show_info(description, out_console)
