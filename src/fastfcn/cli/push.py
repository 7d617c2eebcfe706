"""`fastfcn push`: upload a weights file to the Hugging Face Hub."""

from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.options import check_weights
from fastfcn.utils.console import say


def push(
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS", help="Weights file.")],
    name: Annotated[str, typer.Argument(metavar="USER/NAME", help="Model on the Hub; created if it does not exist.")],
    private: Annotated[bool, typer.Option("--private", help="Create a private model.")] = False,
    license: Annotated[str | None, typer.Option(help="License identifier of the Hub, such as apache-2.0.")] = None,
    message: Annotated[str, typer.Option(help="Commit message.")] = "",
    dry_run: Annotated[
        Path | None, typer.Option("--dry-run", metavar="FOLDER", help="Write the files to FOLDER instead of uploading.")
    ] = None,
) -> None:
    """Upload a weights file to the Hugging Face Hub, with a model card. Needs a login (hf auth login).

    [dim]fastfcn push runs/camvid/weights.safetensors me/streets --dry-run streets-card\n
    fastfcn push runs/camvid/weights.safetensors me/streets --private[/]
    """
    check_weights(weights)
    from fastfcn.weights.push import push as push_weights
    from fastfcn.weights.push import write_files

    if dry_run:
        for file in write_files(weights, name, dry_run, license):
            say("Wrote {}.", file)
        return
    say("Uploaded to {}", push_weights(weights, name, private, message, license))
    usage = f'fastfcn.load("hf://{name}"), or fastfcn predict hf://{name} PHOTOS --out segmented'
    say("[dim]Use it anywhere: {}[/]", usage)
