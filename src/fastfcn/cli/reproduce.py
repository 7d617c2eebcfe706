"""`fastfcn reproduce`: check a published result."""

from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.options import Accelerator, Data, Devices, Precision, Workers
from fastfcn.cli.output import out_console, plain, say


def reproduce(
    name: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe with published scores.")],
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Folder for all that is made; else reproduced/RECIPE.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Weights to score, instead of the published ones.")] = None,
    train: Annotated[bool, typer.Option("--train", help="Train the row first; the same command goes on.")] = False,
    tta: Annotated[bool | None, typer.Option("--tta/--no-tta", help="Several scales and flip, too.")] = None,
    tolerance: Annotated[float | None, typer.Option(min=0, help="Points of mIoU that still hold.")] = None,
    split: Annotated[str | None, typer.Option(help="Split to score; by default the recipe's val split.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    devices: Devices = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    workers: Workers = None,
    precision: Precision = "32-true",
    accelerator: Accelerator = "auto",
    accumulate: Annotated[int, typer.Option(min=1, help="Train each batch in so many parts, to save memory.")] = 1,
) -> None:
    """Reproduce a row of the table: fetch the published weights or train, score, and compare.

    The exit code is 0 where the published scores hold, and 1 where they differ.

    [dim]fastfcn reproduce fastfcn_r50_psp_cityscapes_80k_b8 --data cityscapes\n
    fastfcn reproduce fastfcn_r50_psp_cityscapes_80k_b8 --data cityscapes --train --devices 4[/]
    """
    from fastfcn.cli.tables.reproduce import verdict_table
    from fastfcn.reproduce.plan import describe, make_plan
    from fastfcn.reproduce.reproduce import reproduce as reproduce_row
    from fastfcn.reproduce.verdict import markdown_row
    from fastfcn.utils.machine import Machine

    machine = Machine(accelerator, devices, nodes, workers, precision, accumulate)
    plan = make_plan(name, data, out, checkpoint, train, tta, split, tolerance)
    for line in describe(plan, machine) if machine.first_process else ():
        say(line)
    if dry_run:
        return
    verdict = reproduce_row(plan, machine, lambda remark: say(plain(remark)))
    if not machine.first_process:
        return
    if verdict is None:
        say("Stopped. The same command goes on where it was.")
        raise typer.Exit(130)
    out_console.print(verdict_table(verdict))
    say(plain(markdown_row(verdict)))
    raise typer.Exit(0 if verdict["verdict"] == "holds" else 1)
