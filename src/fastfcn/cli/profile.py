"""`fastfcn profile`: where a network spends its time, and what fits a latency budget."""

from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.options import JsonFile, Precision, Threads, split_changes
from fastfcn.cli.output import out_console, write_record


def profile(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME [KEY=VALUE]...", help="A recipe and changes to it; with --budget any number."),
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="HxW", help="Of the image; else the recipe's crop.")] = None,
    runs: Annotated[int | None, typer.Option(min=1, help="Counted passes; else about ten seconds of them.")] = None,
    picture: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Also draw the stages here.")] = None,
    budget: Annotated[str | None, typer.Option(metavar="TIME", help="'20 ms', '0.5 s' or '30 images/s'.")] = None,
    seconds: Annotated[float, typer.Option(min=0, help="With --budget: how long to measure.")] = 30.0,
    threads: Threads = None,
    json_file: JsonFile = None,
    precision: Precision = "32-true",
    accelerator: Annotated[str, typer.Option("--accelerator", "--device", help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Show where a network's time, arithmetic and memory go, stage by stage, JPU beside its dilated twin.

    With --budget: list which recipes, widths of JPU and sizes keep within a time for an image on this machine.

    [dim]fastfcn profile fastfcn_r50_psp_cityscapes_80k_b8 --size 256x512 --picture stages.png\n
    fastfcn profile --budget '200 ms' --size 256x512[/]
    """
    from fastfcn.bench.measure import Settings
    from fastfcn.bench.profile import profile as profile_recipe
    from fastfcn.bench.profile import within_budget
    from fastfcn.bench.record import image_size
    from fastfcn.bench.stage_chart import check_suffix, save_stage_chart
    from fastfcn.cli.tables.profile import budget_table, stage_table
    from fastfcn.utils.files import make_folder

    names, changes = split_changes(arguments)
    for each in filter(None, (json_file, picture)):
        make_folder(each.parent)  # what is wrong with it is said before the work
    if picture:
        check_suffix(picture)
    settings = Settings(image_size(size) if size else None, runs, None, precision, accelerator, threads)
    if budget:
        record = within_budget(budget, names, changes, settings, seconds)
        out_console.print(budget_table(record))
    else:
        record = profile_recipe(names, changes, settings)
        out_console.print(stage_table(record))
        save_stage_chart(record, picture)
    write_record(json_file, record)
