"""Verbs that measure speed."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.options import Accelerator, JsonFile, Precision, Threads, Trusted
from fastfcn.cli.output import out_console


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
    from fastfcn.bench.bench_table import bench_table
    from fastfcn.bench.measure import Settings
    from fastfcn.bench.record import image_size
    from fastfcn.utils.files import make_folder

    if json_file:
        make_folder(json_file.parent)  # what is wrong with it is said before the work
    names, changes = _sorted_out(arguments)
    settings = Settings(image_size(size) if size else None, runs, batch, precision, accelerator, threads, trusted)
    parts = [part for part, left_out in (("inference", no_infer), ("training", no_train)) if not left_out]
    record = bench_recipes(names, changes, settings, parts)
    out_console.print(bench_table(record))
    _write(json_file, record)


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
    from fastfcn.bench.budget_table import budget_table
    from fastfcn.bench.measure import Settings
    from fastfcn.bench.record import image_size
    from fastfcn.bench.stage_picture import check_ending, save_stage_picture
    from fastfcn.bench.stage_profile import profile as profile_recipe
    from fastfcn.bench.stage_profile import within_budget
    from fastfcn.bench.stage_table import stage_table
    from fastfcn.utils.files import make_folder

    names, changes = _sorted_out(arguments)
    for each in filter(None, (json_file, picture)):
        make_folder(each.parent)  # what is wrong with it is said before the work
    if picture:
        check_ending(picture)
    settings = Settings(image_size(size) if size else None, runs, None, precision, accelerator, threads)
    if budget:
        record = within_budget(budget, names, changes, settings, seconds)
        out_console.print(budget_table(record))
    else:
        record = profile_recipe(names, changes, settings)
        out_console.print(stage_table(record))
        save_stage_picture(record, picture)
    _write(json_file, record)


def _sorted_out(arguments: list[str] | None) -> tuple[list[str], list[str]]:
    """Names and changes; a change has a sign of equality."""
    given = arguments or []
    return [each for each in given if "=" not in each], [each for each in given if "=" in each]


def _write(path: Path | None, record: dict) -> None:
    from fastfcn.bench.record import command
    from fastfcn.utils.files import write_text

    if path:
        write_text(path, json.dumps({"command": command()} | record, indent=1) + "\n")
