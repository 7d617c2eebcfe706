"""`fastfcn import`: write a dataset from the annotations of a labeling tool."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.options import JsonFile
from fastfcn.utils.console import out_console


class Overlap(StrEnum):
    """Values of --overlap."""

    order = "order"
    area = "area"


class Unlabeled(StrEnum):
    """Values of --unlabeled."""

    background = "background"
    ignore = "ignore"


class Crowd(StrEnum):
    """Values of --crowd."""

    label = "class"
    ignore = "ignore"


def import_annotations(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the export, or its annotation file.")],
    out: Annotated[Path, typer.Option(metavar="DATASET", help="New folder for images, masks and dataset.toml.")],
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the images, if they are not in the export.")
    ] = None,
    overlap: Annotated[
        Overlap,
        typer.Option(help="Where shapes overlap: order, later ones over earlier; area, small ones over large."),
    ] = Overlap.order,
    unlabeled: Annotated[
        Unlabeled, typer.Option(help="What pixels without a shape are: the class background, or ignored.")
    ] = Unlabeled.background,
    crowd: Annotated[
        Crowd, typer.Option(help="What COCO's crowd regions are: their class, below all other shapes, or ignored.")
    ] = Crowd.label,
    link: Annotated[bool, typer.Option("--link", help="Link to the images instead of copying them.")] = False,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out images with broken annotations, and list them.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random split, if the export has no splits.")] = 0,
    format_name: Annotated[
        str, typer.Option("--format", metavar="NAME", help="Format of the export, such as coco (default: recognized).")
    ] = "",
    workers: Annotated[int | None, typer.Option(min=1, help="Number of threads (default: by CPU cores).")] = None,
    json_file: JsonFile = None,
) -> None:
    """Convert the annotations of a labeling tool to a dataset of images and masks.

    Reads COCO, LabelMe, CVAT, Label Studio, YOLO segmentation, Pascal VOC, Roboflow masks and Supervisely. The splits
    of the export are kept; without splits, the images are split randomly. DATASET appears when everything is written;
    broken annotations are listed with file and entry.

    [dim]fastfcn import export --out photos\n
    fastfcn import annotations --images pictures --out photos --overlap area --unlabeled ignore --skip-broken[/]
    """
    from fastfcn.cli.tables.imported import show_import
    from fastfcn.init.import_report import ImportOptions
    from fastfcn.init.importing import import_annotations as run
    from fastfcn.utils.files import write_text

    options = ImportOptions(
        images=images,
        format=format_name,
        overlap=overlap.value,
        crowd=crowd.value,
        unlabeled=unlabeled.value,
        link=link,
        skip_broken=skip_broken,
        seed=seed,
    )
    report = run(folder, out, options, workers or min(8, os.cpu_count() or 1))
    if json_file:
        import json

        write_text(json_file, json.dumps(report.as_json(), indent=1) + "\n")
    show_import(report, out_console)


import_annotations.__name__ = "import"  # the name of the command, which is a keyword of Python
