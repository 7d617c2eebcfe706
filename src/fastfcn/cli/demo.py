"""`fastfcn demo`: train a small network on drawn street scenes."""

from pathlib import Path
from typing import Annotated

import typer

from fastfcn.utils.console import out_console


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="New folder to write to.")] = Path("fastfcn-demo"),
    minutes: Annotated[
        float, typer.Option(min=0.5, help="Time for everything; a slow machine trains fewer steps.")
    ] = 3.0,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Number of training steps, whatever the time (default: by --minutes)."),
    ] = None,
) -> None:
    """Train a small network on synthetic street scenes for a few minutes and segment some of them.

    [dim]fastfcn demo --out streets-demo\n
    fastfcn demo --minutes 1\n
    fastfcn demo --steps 600[/]
    """
    from fastfcn import recipes
    from fastfcn.demo.demo import demo as run_demo
    from fastfcn.demo.demo import with_steps

    changes = with_steps(steps, recipes.load("demo")) if steps else []
    if run_demo(out, out_console, changes, minutes=minutes) is None:
        raise typer.Exit(130)
