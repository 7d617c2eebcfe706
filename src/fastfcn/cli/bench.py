"""`fastfcn bench`: speed and memory of recipes, side by side."""

from typing import Annotated

import typer

from fastfcn.cli.options import Accelerator, JsonFile, Precision, Threads, Trusted, check_network, split_changes
from fastfcn.cli.output import write_record
from fastfcn.utils.console import out_console


def bench(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME... [KEY=VALUE]...", help="Recipes, weights files or exported files; overrides apply to all."
        ),
    ],
    size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Image size for inference (default: the recipe's test size).")
    ] = None,
    runs: Annotated[
        int | None, typer.Option(min=1, help="Number of timed runs (default: as many as fit in ten seconds).")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=2, help="Batch size of a training step (default: the recipe's, per device).")
    ] = None,
    no_train: Annotated[bool, typer.Option("--no-train", help="Measure inference only.")] = False,
    no_infer: Annotated[bool, typer.Option("--no-infer", help="Measure training only.")] = False,
    threads: Threads = None,
    json_file: JsonFile = None,
    precision: Precision = "32-true",
    accelerator: Accelerator = "auto",
    trusted: Trusted = False,
) -> None:
    """Measure speed and memory of inference and training for one or more networks.

    A recipe is measured with random weights. The batch size per device of a published recipe is a quarter of its batch
    size, because it was trained on 4 GPUs.

    [dim]fastfcn bench fastfcn_r50_psp_cityscapes_80k_b8 dilated_r50_psp_cityscapes_80k_b8 --size 512x1024[/]
    """
    names, changes = split_changes(arguments)
    for name in names:
        check_network(name, changes)
    from fastfcn.bench.bench import bench as bench_recipes
    from fastfcn.bench.measure import Settings
    from fastfcn.cli.tables.bench import bench_table
    from fastfcn.recipes.inference import image_size
    from fastfcn.utils.files import make_folder

    if json_file:
        make_folder(json_file.parent)  # report an unusable path before measuring
    settings = Settings(image_size(size) if size else None, runs, batch, precision, accelerator, threads, trusted)
    parts = [part for part, left_out in (("inference", no_infer), ("training", no_train)) if not left_out]
    record = bench_recipes(names, changes, settings, parts)
    try:
        write_record(json_file, record)
    finally:  # a full disk must not cost the figures
        out_console.print(bench_table(record))
