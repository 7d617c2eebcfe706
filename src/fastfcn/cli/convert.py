"""`fastfcn convert`: published checkpoints to weights files."""

from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.output import say


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth file of OpenMMLab's (mmsegmentation 0.x or 1.x).")],
    name: Annotated[str, typer.Option("--recipe", help="The recipe, or OpenMMLab config name, it was trained with.")],
    out: Annotated[Path, typer.Option(help="Weights file to write.")],
) -> None:
    """Make a weights file of a published checkpoint. Nothing in the checkpoint is run.

    [dim]fastfcn convert published.pth --recipe fastfcn_r50_psp_cityscapes_80k_b8 --out psp.safetensors[/]
    """
    from fastfcn.weights.convert import convert as convert_checkpoint

    for remark in convert_checkpoint(checkpoint, name, out):
        say(remark)
    say(f"Wrote {out}.")
