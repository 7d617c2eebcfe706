"""`fastfcn convert`: published checkpoints to weights files."""

from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.options import check_weights
from fastfcn.utils.console import say, say_plain


def convert(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Checkpoint (.pth) of mmsegmentation 0.x or 1.x, or of the official FastFCN code (.pth.tar).",
        ),
    ],
    name: Annotated[str, typer.Option("--recipe", help="Recipe or OpenMMLab config it was trained with.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Weights file to write.")],
) -> None:
    """Convert a published checkpoint to a weights file. Nothing in the checkpoint is executed.

    [dim]fastfcn convert published.pth --recipe fastfcn_r50_psp_cityscapes_80k_b8 --out psp.safetensors[/]
    """
    check_weights(checkpoint, "Give the .pth file you downloaded or trained.")
    from fastfcn.weights.convert import convert as convert_checkpoint

    for remark in convert_checkpoint(checkpoint, name, out):
        say_plain(remark)
    say("Wrote {}.", out)
