"""`fastfcn profile`: where a network spends its time, and what fits a latency budget."""

from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.options import JsonFile, Precision, Threads, check_network, split_changes
from fastfcn.cli.output import write_record
from fastfcn.utils.console import out_console


def profile(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME [KEY=VALUE]...", help="A recipe and overrides; with --budget any number of recipes."
        ),
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="HxW", help="Image size (default: the recipe's crop).")] = None,
    runs: Annotated[
        int | None, typer.Option(min=1, help="Number of timed passes (default: as many as fit in ten seconds).")
    ] = None,
    chart: Annotated[
        Path | None, typer.Option("--chart", "--picture", metavar="FILE.png", help="Also draw a chart of the stages.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Latency budget: '20 ms', '0.5 s' or '30 images/s'.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="With --budget: how long to measure, in seconds.")] = 30.0,
    threads: Threads = None,
    json_file: JsonFile = None,
    precision: Precision = "32-true",
    accelerator: Annotated[
        str, typer.Option("--accelerator", "--device", help="Device type: auto, cpu, cuda or mps.")
    ] = "auto",
) -> None:
    """Profile the stages of a network: time, FLOPs and memory, next to its dilated baseline.

    With --budget: list the recipes, JPU widths and image sizes that meet a latency budget on this machine.

    [dim]fastfcn profile fastfcn_r50_psp_cityscapes_80k_b8 --size 256x512 --chart stages.png\n
    fastfcn profile --budget '200 ms' --size 256x512[/]
    """
    names, changes = split_changes(arguments)
    for name in names:
        check_network(name, changes)
    from fastfcn.bench.measure import Settings
    from fastfcn.bench.profile import profile as profile_recipe
    from fastfcn.bench.profile import within_budget
    from fastfcn.bench.stage_chart import check_suffix, save_stage_chart
    from fastfcn.cli.tables.profile import budget_table, stage_table
    from fastfcn.recipes.inference import image_size
    from fastfcn.utils.files import make_folder

    for path in filter(None, (json_file, chart)):
        make_folder(path.parent)  # report an unusable path before measuring
    if chart:
        check_suffix(chart)
    settings = Settings(image_size(size) if size else None, runs, None, precision, accelerator, threads)
    if budget:
        record = within_budget(budget, names, changes, settings, seconds)
        table = budget_table
    else:
        record = profile_recipe(names, changes, settings)
        table = stage_table
    try:
        write_record(json_file, record)
        if not budget:
            save_stage_chart(record, chart)
    finally:  # a full disk must not cost the figures
        out_console.print(table(record))
