"""Options that several verbs have."""

from pathlib import Path
from typing import Annotated

import typer

Changes = Annotated[list[str] | None, typer.Argument(help="Changes to the recipe: KEY=VALUE, e.g. optim.lr=0.02")]
Data = Annotated[Path, typer.Option(help="Folder of the data set.")]
Devices = Annotated[int, typer.Option(min=1, help="Processes, one a device.")]
Workers = Annotated[int | None, typer.Option(min=0, help="Processes that read images, for each device.")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures here.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Of the processor; else as torch chooses.")]
Precision = Annotated[str, typer.Option(help="32-true, bf16-mixed or 16-mixed.")]
Trusted = Annotated[bool, typer.Option("--trusted", help="A .pt2 file may run the code that it holds.")]
Accelerator = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]

TOKEN = "FASTFCN_TOKEN"  # environment variable with the bearer token of a service


def split_changes(arguments: list[str] | None) -> tuple[list[str], list[str]]:
    """Split the arguments of `bench` and `profile` into names and KEY=VALUE changes."""
    names = [argument for argument in arguments or [] if "=" not in argument]
    return names, [argument for argument in arguments or [] if "=" in argument]
