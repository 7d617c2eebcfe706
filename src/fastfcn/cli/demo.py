"""`fastfcn demo`: train a small network on drawn street scenes."""

from pathlib import Path
from typing import Annotated

import typer

from fastfcn.utils.console import out_console


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="New folder to write to.")] = Path("fastfcn-demo"),
) -> None:
    """Train a small network on synthetic street scenes for two minutes and segment some of them.

    [dim]fastfcn demo --out streets-demo[/]
    """
    from fastfcn.demo.demo import demo as run_demo

    run_demo(out, out_console)
