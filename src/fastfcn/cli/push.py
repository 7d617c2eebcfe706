"""`fastfcn push`: upload a weights file to the Hugging Face Hub."""

from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.output import say


def push(
    weights: Annotated[Path, typer.Argument(help="A weights file.")],
    name: Annotated[str, typer.Argument(metavar="USER/NAME", help="Of the model on the Hub; made if need be.")],
    private: Annotated[bool, typer.Option("--private", help="Make it for yourself alone.")] = False,
    licence: Annotated[str | None, typer.Option("--license", help="The Hub's word for it, such as apache-2.0.")] = None,
    message: Annotated[str, typer.Option(help="What to note with this version.")] = "",
    dry_run: Annotated[
        Path | None, typer.Option("--dry-run", metavar="FOLDER", help="Write card and files here; send nothing.")
    ] = None,
) -> None:
    """Put a weights file on the Hugging Face Hub, with a model card written from it. Needs a login there.

    [dim]fastfcn push runs/camvid/weights.safetensors me/streets --dry-run streets-card\n
    fastfcn push runs/camvid/weights.safetensors me/streets --private[/]
    """
    from fastfcn.weights.push import push as push_weights
    from fastfcn.weights.push import write_files

    if dry_run:
        for file in write_files(weights, name, dry_run, licence):
            say(f"Wrote {file}.")
        return
    say(f"Sent to {push_weights(weights, name, private, message, licence)}")
    say(f'[dim]Use it anywhere: fastfcn.load("hf://{name}"), or fastfcn predict hf://{name} PHOTOS --out coloured[/]')
