"""Verbs that look at what others made: checkpoints and data sets."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.options import Workers
from fastfcn.cli.screen import out_console, say


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth file of OpenMMLab's (mmsegmentation 0.x or 1.x).")],
    name: Annotated[str, typer.Option("--recipe", help="The recipe, or OpenMMLab config name, it was trained with.")],
    out: Annotated[Path, typer.Option(help="Weights file to write.")],
) -> None:
    """Make a weights file of a published checkpoint. Nothing in the checkpoint is run.

    [dim]fastfcn convert published.pth --recipe fastfcn_r50_psp_cityscapes_80k_b8 --out psp.safetensors[/]
    """
    from fastfcn.convert import convert as convert_checkpoint

    for remark in convert_checkpoint(checkpoint, name, out):
        say(remark)
    say(f"Wrote {out}.")


def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the data set.")],
    dataset: Annotated[str, typer.Option(help="Name of a data set, or path of its .toml file.")],
    split: Annotated[list[str] | None, typer.Option(help="Check only this split; may be given again.")] = None,
    values: Annotated[bool, typer.Option("--values", help="Also read every mask.")] = False,
    workers: Workers = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write what was found here.")
    ] = None,
) -> None:
    """Say where a data set comes from and what its folder must look like, and check the one at hand.

    The exit code is 1 where anything is wrong.

    [dim]fastfcn check cityscapes --dataset cityscapes --split val[/]
    """
    from fastfcn.check import check as check_folder
    from fastfcn.data.description import load_description
    from fastfcn.files import write_text
    from fastfcn.machine import Machine
    from fastfcn.show_check import show_report

    readers = Machine(workers=workers).readers
    report = check_folder(load_description(dataset), folder, split or (), values, readers)
    show_report(report, out_console)
    if json_file:
        write_text(json_file, json.dumps(report.as_json(), indent=1) + "\n")
    if report.problems:
        raise typer.Exit(1)
