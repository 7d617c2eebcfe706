"""`fastfcn info`: what a weights file contains."""

import json
from typing import Annotated

import typer

from fastfcn.cli.output import out_console


def info(
    weights: Annotated[str, typer.Argument(help="A weights file, or hf://USER/NAME.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say what a weights file is: classes with their colours, recipe, score, data set, size, when it was made.

    [dim]fastfcn info runs/camvid/weights.safetensors\n
    fastfcn info runs/camvid/weights.safetensors --json > weights.json[/]
    """
    from fastfcn.cli.tables.info import show_info
    from fastfcn.weights.hub import fetch, is_address
    from fastfcn.weights.info import info as read_info

    about = read_info(fetch(weights) if is_address(weights) else weights)
    if as_json:
        out_console.file.write(json.dumps(about, indent=1) + "\n")
    else:
        show_info(about, out_console)
