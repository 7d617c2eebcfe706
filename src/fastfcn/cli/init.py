"""The verb that begins: a description and a recipe for a folder of one's own."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.options import Accelerator, Workers
from fastfcn.cli.output import out_console, plain, say

SHOWN = 30  # classes


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of images and masks.")],
    classes: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Names of the classes, in the order of the masks' values.")
    ] = None,
    pretrained: Annotated[
        str, typer.Option(metavar="FILE|none", help="Initial weights: imagenet (fetched), a file, or none.")
    ] = "imagenet",
    backbone: Annotated[str, typer.Option(help="A ResNet of timm's, such as resnet50; else chosen.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for dataset.toml and recipe.toml; else DIR itself.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws train and val where DIR has none.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    accelerator: Accelerator = "auto",
    workers: Workers = None,
) -> None:
    """Draft dataset.toml and a recipe for a folder of images and masks, every choice with its reason.

    The images are left as they are. Where DIR has no train and val, they are drawn, and listed in DIR/splits.

    [dim]fastfcn init photos\n
    fastfcn init photos --classes background,leaf --pretrained none[/]
    """
    from fastfcn.init.init import init as draft
    from fastfcn.init.machine import this_machine
    from fastfcn.utils.machine import Machine

    names = [each.strip() for each in classes.split(",")] if classes else []
    readers = Machine(workers=workers).dataloader_workers
    machine = this_machine(accelerator)
    drafted = draft(folder, out, names, pretrained, backbone, seed, force, readers, machine)
    about, used = drafted.description, drafted.recipe
    say(f"Wrote {plain(', '.join(str(path) for path in drafted.files))}.")
    said = f"{len(about.classes)} classes; {drafted.train} images to train on, {drafted.val} held out."
    say(f"{said} {used.backbone.name}, {used.loss.kind}, {used.optim.steps} steps of {used.optim.batch}.")
    for each in about.classes[:SHOWN]:
        out_console.print(f"  [on rgb({','.join(map(str, each.color))})]  [/] {plain(each.name)}", highlight=False)
    if len(about.classes) > SHOWN:
        say(f"  and {len(about.classes) - SHOWN} more")
    if drafted.errors:
        say("[bold yellow]The data has errors with which training stops or goes wrong:[/]")
        for problem in drafted.errors:
            say(f"  {plain(problem.message)}")
        say(f"Mend a copy, and begin with that: fastfcn check {plain(shlex.quote(str(folder)))} --fix OUT")
    say("[dim]Look through both files; then:[/]")
    for command in drafted.commands():
        say(f"  {plain(command)}")
