"""`fastfcn bench`: speed and memory of recipes, side by side."""

from typing import Annotated

import typer

from fastfcn.cli.options import Accelerator, JsonFile, Precision, Threads, Trusted, split_changes
from fastfcn.cli.output import out_console, write_record


def bench(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="NAME... [KEY=VALUE]...", help="Recipes or weights files; changes to all of them."),
    ],
    size: Annotated[str | None, typer.Option(metavar="HxW", help="For inference; else the recipe's test size.")] = None,
    runs: Annotated[int | None, typer.Option(min=1, help="Counted runs; else about ten seconds of them.")] = None,
    batch: Annotated[int | None, typer.Option(min=2, help="Of a training step; else the recipe's per device.")] = None,
    no_train: Annotated[bool, typer.Option("--no-train", help="Measure inference only.")] = False,
    no_infer: Annotated[bool, typer.Option("--no-infer", help="Measure training only.")] = False,
    threads: Threads = None,
    json_file: JsonFile = None,
    precision: Precision = "32-true",
    accelerator: Accelerator = "auto",
    trusted: Trusted = False,
) -> None:
    """Measure speed and memory of recipes side by side: image to class map, and training steps.

    A recipe's name stands for random weights, a .safetensors or exported file for its own.

    The per-device batch of a published recipe is a fourth of its batch (it was trained on 4 GPUs).

    [dim]fastfcn bench fastfcn_r50_psp_cityscapes_80k_b8 dilated_r50_psp_cityscapes_80k_b8 --size 512x1024[/]
    """
    from fastfcn.bench.bench import bench as bench_recipes
    from fastfcn.bench.measure import Settings
    from fastfcn.bench.record import image_size
    from fastfcn.cli.tables.bench import bench_table
    from fastfcn.utils.files import make_folder

    if json_file:
        make_folder(json_file.parent)  # what is wrong with it is said before the work
    names, changes = split_changes(arguments)
    settings = Settings(image_size(size) if size else None, runs, batch, precision, accelerator, threads, trusted)
    parts = [part for part, left_out in (("inference", no_infer), ("training", no_train)) if not left_out]
    record = bench_recipes(names, changes, settings, parts)
    out_console.print(bench_table(record))
    write_record(json_file, record)
