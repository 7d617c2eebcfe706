"""`fastfcn demo`: train a small network on drawn street scenes."""

from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.output import out_console


def demo(
    out: Annotated[Path, typer.Option(help="Folder to write into; made anew.")] = Path("fastfcn-demo"),
) -> None:
    """Draw street scenes, train a small network on them for two minutes, and show what it learnt.

    [dim]fastfcn demo --out streets-demo[/]
    """
    from fastfcn.demo.demo import demo as run_demo

    run_demo(out, out_console)
