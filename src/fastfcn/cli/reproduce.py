"""`fastfcn reproduce`: check a published result."""

from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.options import Accelerator, Data, Devices, Nodes, Precision, Split, Workers, check_network
from fastfcn.utils.console import out_console, say, say_plain


def reproduce(
    name: Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a recipe with published scores.")],
    data: Data,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Output folder (default: reproduced/RECIPE).")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Evaluate these weights instead of the published ones.")
    ] = None,
    train: Annotated[bool, typer.Option("--train", help="Train the recipe first; run again to resume.")] = False,
    tta: Annotated[
        bool | None,
        typer.Option("--tta/--no-tta", help="Also evaluate with several scales and flips (default: if published)."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0, help="Allowed mIoU difference, in points (default: 0.1; 1 for your own training)."),
    ] = None,
    split: Split = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and exit.")] = False,
    devices: Devices = 1,
    nodes: Nodes = 1,
    workers: Workers = None,
    precision: Precision = "32-true",
    accelerator: Accelerator = "auto",
    accumulate: Annotated[int, typer.Option(min=1, help="Split each batch into this many parts to save memory.")] = 1,
) -> None:
    """Reproduce a published result: download the weights or train, evaluate, and compare the scores.

    The exit code is 0 if the scores agree within the tolerance, and 1 otherwise.

    [dim]fastfcn reproduce fastfcn_r50_psp_cityscapes_80k_b8 --data cityscapes\n
    fastfcn reproduce fastfcn_r50_psp_cityscapes_80k_b8 --data cityscapes --train --devices 4[/]
    """
    check_network(name, [])
    from fastfcn.cli.tables.reproduce import verdict_table
    from fastfcn.reproduce.plan import describe, make_plan
    from fastfcn.reproduce.reproduce import reproduce as reproduce_row
    from fastfcn.reproduce.verdict import markdown_row
    from fastfcn.training.run import TrainingResult
    from fastfcn.utils.files import refuse_url
    from fastfcn.utils.machine import Machine

    refuse_url(data)
    machine = Machine(accelerator, devices, nodes, workers, precision, accumulate)
    plan = make_plan(name, Path(data), out, checkpoint, train, tta, split, tolerance)
    for line in describe(plan, machine) if machine.first_process else ():
        out_console.print_line(line)
    if dry_run:
        return
    verdict = reproduce_row(plan, machine, say_plain)
    if isinstance(verdict, TrainingResult):
        if machine.first_process:
            say("Stopped. Run the same command to continue.")
        raise typer.Exit(verdict.exit_code)
    if verdict is None:
        return
    out_console.print(verdict_table(verdict))
    say_plain(markdown_row(verdict))
    raise typer.Exit(0 if verdict["verdict"] == "holds" else 1)
