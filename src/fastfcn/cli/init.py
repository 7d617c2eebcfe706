"""`fastfcn init`: write a dataset description and a recipe for a folder of images and masks."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.options import Accelerator, Bands, Images, Masks, Nodata, Workers, band_names
from fastfcn.utils.console import say, swatch

SHOWN = 30  # classes listed


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of images and masks.")],
    classes: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Class names, in the order of the mask values.")
    ] = None,
    images: Images = "",
    masks: Masks = "",
    bands: Bands = "",
    nodata: Nodata = None,
    pretrained: Annotated[
        str,
        typer.Option(metavar="FILE|none", help="Backbone weights: imagenet (downloaded), a file, or none."),
    ] = "imagenet",
    backbone: Annotated[
        str,
        typer.Option(help="A timm network, such as resnet50 or convnext_tiny (default: chosen for this machine)."),
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for dataset.toml and recipe.toml (default: DIR).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random split, if DIR has no train and val.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
    accelerator: Accelerator = "auto",
    workers: Workers = None,
) -> None:
    """Write dataset.toml and recipe.toml for a folder of images and masks, with a reason for each choice.

    The images are not changed. If DIR has no train and val, the images are split randomly, into lists in DIR/splits.

    [dim]fastfcn init photos\n
    fastfcn init photos --classes background,leaf --pretrained none\n
    fastfcn init scenes --bands red,green,blue,nir --nodata 0[/]
    """
    from fastfcn.checking.bands import BandSettings
    from fastfcn.init.choices import this_machine
    from fastfcn.init.init import init as create_files
    from fastfcn.utils.machine import Machine

    names = [name.strip() for name in classes.split(",")] if classes else []
    threads = Machine(workers=workers).dataloader_workers
    machine = this_machine(accelerator)
    result = create_files(
        folder, out, names, pretrained, backbone, seed, force, threads, machine, images=images, masks=masks,
        bands=BandSettings(band_names(bands), nodata),
    )  # fmt: skip
    dataset, recipe = result.description, result.recipe
    say("Wrote {}.", ", ".join(map(str, result.files)))
    say("{} classes; {} training and {} validation images.", len(dataset.classes), result.train, result.val)
    for reason in result.split_reasons:
        say("  [dim]{}[/]", reason)
    optim = recipe.optim
    name, loss = recipe.backbone.name, recipe.loss.kind
    say("{}, {} loss, {} steps with batch size {}.", name, loss, optim.steps, optim.batch)
    if dataset.bands:
        say("Bands of {}: {}.", dataset.bands.dtype, ", ".join(dataset.bands.names))
    for entry in dataset.classes[:SHOWN]:
        say("  {} {}", swatch(entry.color), entry.name)
    if len(dataset.classes) > SHOWN:
        say("  and {} more", len(dataset.classes) - SHOWN)
    for problem in result.notes:
        say("[bold yellow]Note:[/] {} {}", problem.message, problem.advice)
    if result.errors:
        say("[bold yellow]The dataset has errors that will make training fail or its results wrong:[/]")
        for problem in result.errors:
            say("  {}", problem.message)
        say("Write a corrected copy and start from it: fastfcn check {} --fix OUT", shlex.quote(str(folder)))
    say("[dim]Review both files, then run:[/]")
    for command in result.commands():
        say("  {}", command)
