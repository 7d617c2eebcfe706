"""`fastfcn check`: find problems in a dataset, or compare a folder with a known dataset."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from fastfcn.cli.output import out_console
from fastfcn.errors import UserError


def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of images and masks.")],
    dataset: Annotated[
        str | None, typer.Option(help="Name of a data set, or path of its .toml file: is the folder that data set?")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="With --dataset: check only this split; may be given again.")
    ] = None,
    values: Annotated[bool, typer.Option("--values", help="With --dataset: also read every mask.")] = False,
    fix: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write a clean copy there; the originals are never touched.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Threads that read files.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write what was found here.")
    ] = None,
) -> None:
    """Look for everything that is wrong with a folder of images and masks.

    The usual layouts are found by themselves: images/ and masks/, train/ and trainannot/, VOC, Cityscapes, ADE20K,
    one folder with suffixes. The exit code is 1 where training would be wrong; warnings alone leave it 0. With
    --dataset, says where that data set comes from and what its folder must look like, and checks the one at hand.

    [dim]fastfcn check photos[/]
    [dim]fastfcn check photos --fix photos-clean --json problems.json[/]
    [dim]fastfcn check cityscapes --dataset cityscapes --split val[/]
    """
    if dataset is None:
        _examine(folder, fix, workers, json_file, bool(split or values))
    elif fix:
        raise UserError(
            "--fix and --dataset do not go together.", f"Make a clean copy: fastfcn check {folder} --fix OUT"
        )
    else:
        _compare(folder, dataset, split or [], values, workers, json_file)


def _examine(folder: Path, fix: Path | None, workers: int | None, json_file: Path | None, needs_dataset: bool) -> None:
    """The data doctor."""
    from fastfcn.checking.fixing import empty_place, mend
    from fastfcn.checking.survey import survey
    from fastfcn.checking.tables import show_changes, show_survey

    if needs_dataset:
        raise UserError("--split and --values are for data sets with a description.", "Name it: --dataset NAME")
    out = empty_place(folder, fix) if fix else None
    threads = workers if workers is not None else min(8, os.cpu_count() or 1)
    found = survey(folder, threads)
    show_survey(found, out_console)
    if json_file:
        found.save_json(json_file)
    if out:
        changes = mend(found, out)
        show_changes(changes, survey(out, threads), out, out_console)
    if found.errors:
        raise typer.Exit(1)


def _compare(
    folder: Path, dataset: str, split: list[str], values: bool, workers: int | None, json_file: Path | None
) -> None:
    """Is the folder the data set that it should be?"""
    from fastfcn.checking.known_dataset import check as check_folder
    from fastfcn.checking.known_dataset_table import show_report
    from fastfcn.data.description import load_description
    from fastfcn.utils.files import write_text
    from fastfcn.utils.machine import Machine

    report = check_folder(load_description(dataset), folder, split, values, Machine(workers=workers).dataloader_workers)
    show_report(report, out_console)
    if json_file:
        write_text(json_file, json.dumps(report.as_json(), indent=1) + "\n")
    if report.problems:
        raise typer.Exit(1)
