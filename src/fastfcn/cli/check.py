"""`fastfcn check`: find problems in a dataset, or compare a folder with a known dataset."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.options import Bands, Images, Masks, Nodata, band_names
from fastfcn.errors import UserError
from fastfcn.utils.console import out_console


def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of images and masks.")],
    images: Images = "",
    masks: Masks = "",
    bands: Bands = "",
    nodata: Nodata = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Compare the folder with a known dataset: its name, or the path of its .toml file."),
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="With --dataset: check only this split; can be repeated.")
    ] = None,
    values: Annotated[bool, typer.Option("--values", help="With --dataset: also read every mask.")] = False,
    fix: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write a corrected copy to OUT; the originals stay unchanged.")
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="With --fix: also make changes of this kind, which change the area or the name of classes; can be "
            "repeated. Kinds: deblur, outliers, near-colors, shift, binary, palette, ids, renumber, folders, resize, "
            "frames, duplicates, all.",
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Number of threads that read files.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the report to FILE.")
    ] = None,
) -> None:
    """Find problems in a folder of images and masks.

    Common layouts are detected: images/ and masks/, train/ and trainannot/, VOC, Cityscapes, ADE20K, one folder with
    suffixes. The exit code is 1 if there are errors, 0 if there are only warnings. In the copy that --fix writes, every
    class keeps its name and, except for blurred edges, its area; other changes are listed and need --accept. With
    --dataset, print the source and expected layout of that dataset, and compare the folder with it.

    [dim]fastfcn check photos[/]
    [dim]fastfcn check DRIVE --masks training/1st_manual[/]
    [dim]fastfcn check photos --fix photos-clean --json problems.json[/]
    [dim]fastfcn check cityscapes --dataset cityscapes --split val[/]
    """
    if dataset is None:
        if split or values:
            raise UserError("--split and --values need a known dataset.", "Add --dataset NAME.")
        _check_folder(folder, images, masks, bands, nodata, fix, accept or [], workers, json_file)
    elif images or masks or bands or nodata is not None:
        raise UserError(
            "--images, --masks, --bands and --nodata cannot be combined with --dataset, which defines the files."
        )
    elif fix:
        raise UserError(
            "--fix cannot be combined with --dataset.", f"Write a corrected copy with: fastfcn check {folder} --fix OUT"
        )
    else:
        _check_known_dataset(folder, dataset, split or [], values, workers, json_file)


def _check_folder(
    folder: Path, images: str, masks: str, bands: str, nodata: float | None, fix: Path | None, accept: list[str],
    workers: int | None, json_file: Path | None,
) -> None:  # fmt: skip
    """Check any folder of images and masks."""
    from fastfcn.checking.bands import BandSettings
    from fastfcn.checking.check import check_folder
    from fastfcn.checking.consent import accepted_kinds
    from fastfcn.checking.fixing import write_fixed_copy
    from fastfcn.cli.tables.check import show_fixed_copy, show_folder_report
    from fastfcn.utils.new_folder import check_new_folder

    if accept and not fix:
        raise UserError("--accept needs --fix.", "Add --fix OUT, a new folder for the corrected copy.")
    accepted_kinds(accept)
    if fix:
        check_new_folder(folder, fix)  # before everything is read
    threads = workers if workers is not None else min(8, os.cpu_count() or 1)
    settings = BandSettings(band_names(bands), nodata)
    report = check_folder(folder, threads, images=images, masks=masks, bands=settings)
    if json_file:
        report.save_json(json_file)
    show_folder_report(report, out_console)
    if fix:
        changes = write_fixed_copy(report, fix, accept)
        settings = report.bands.settings if report.bands else settings
        copied = check_folder(fix, threads, images=images, masks=masks, bands=settings)
        show_fixed_copy(changes, report, copied, fix, out_console)
    if report.errors:
        raise typer.Exit(1)


def _check_known_dataset(
    folder: Path, dataset: str, split: list[str], values: bool, workers: int | None, json_file: Path | None
) -> None:
    """Compare the folder with a known dataset."""
    from fastfcn.checking.known_dataset import check_known_dataset
    from fastfcn.cli.tables.check import show_known_dataset_report
    from fastfcn.data.description import load_description
    from fastfcn.utils.files import write_text
    from fastfcn.utils.machine import Machine

    report = check_known_dataset(
        load_description(dataset), folder, split, values, Machine(workers=workers).dataloader_workers
    )
    if json_file:
        write_text(json_file, json.dumps(report.as_json(), indent=1) + "\n")
    show_known_dataset_report(report, out_console)
    if report.problems:
        raise typer.Exit(1)
