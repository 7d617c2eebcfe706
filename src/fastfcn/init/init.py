"""`fastfcn init`: write a dataset description and a recipe for a folder of images and masks."""

import os
import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from fastfcn import build, recipes
from fastfcn.checking.bands import BandSettings
from fastfcn.checking.check import FolderReport, check_folder
from fastfcn.checking.problem import Problem
from fastfcn.data.description import DatasetDescription, load_description, parse_description
from fastfcn.data.layout import find_examples
from fastfcn.errors import DataError, OutputError, WeightsError
from fastfcn.init.choices import Facts, TrainingMachine, choose_loss, this_machine
from fastfcn.init.classes import choose_classes
from fastfcn.init.splits import LISTS, choose_splits
from fastfcn.init.toml_files import dataset_toml, recipe_toml
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.files import make_folder, write_text

DATASET, RECIPE = "dataset.toml", "recipe.toml"
# Errors that the written dataset description resolves, because it defines what these values mean.
RESOLVED = frozenset({"binary_255", "stretched_ids"})
# Warnings about what init chose, and about files that it does not use, or not for certain.
NOTED = frozenset({"several_candidates", "class_folders", "not_read", "lists_not_used", "class_list_unclear"})


class Split(NamedTuple):
    """A split that a recipe uses, and its number of images."""

    name: str
    images: int


@dataclass(frozen=True)
class InitResult:
    """The written `files`, in order; `errors` are problems of the dataset that would affect training.

    `notes` are choices that may have to be made differently, `split_reasons` say how the images were split.
    """

    root: Path
    files: tuple[Path, ...]
    description: DatasetDescription
    recipe: Recipe
    train: int
    val: int
    errors: tuple[Problem, ...]
    notes: tuple[Problem, ...]
    split_reasons: tuple[str, ...]

    @property
    def recipe_file(self) -> Path:
        return self.files[-1]

    def commands(self) -> list[str]:
        """The next commands to run, from the current folder."""
        run, data = f"runs/{self.recipe.name}", shlex.quote(str(self.root))
        train = f"fastfcn train {shlex.quote(str(self.recipe_file))} --data {data} --out {run}"
        return [
            train,
            f"fastfcn evaluate {run}/weights.safetensors --data {data}",
            f"fastfcn report {run} --data {data}",
        ]


def init(
    root: str | Path, out: str | Path | None = None, classes: Sequence[str] = (), pretrained: str = "imagenet",
    backbone: str = "", seed: int = 0, force: bool = False, workers: int = 1, machine: TrainingMachine | None = None,
    images: str = "", masks: str = "", bands: BandSettings | None = None,
) -> InitResult:  # fmt: skip
    """Check the folder `root` and write dataset.toml, recipe.toml and, if it has no splits, lists of a random split.

    The TOML files go to `out`, by default `root`. `classes` are names in the order of the mask values; `pretrained` is
    "imagenet", "none" or a weights file; `backbone` is the name of a timm network; `seed` is for the random split;
    `images` and `masks` are folders below `root` to use, if several could be meant; `bands`: as for `check_folder`. If
    `out` has a dataset.toml and no recipe.toml, as after `fastfcn import`, only recipe.toml is written.
    Raises OutputError if one of the files exists and `force` is not set, DataError if the folder cannot be used, and
    RecipeError if the backbone cannot.
    """
    root, out = Path(root), Path(root if out is None else out)
    bands = None if bands == BandSettings() else bands
    kept = (out / DATASET).is_file() and not (out / RECIPE).exists() and not (classes or images or masks or bands)
    kept = kept and not force
    if not kept:
        _refuse_to_overwrite([out / DATASET, out / RECIPE], force)
    weights = _weights_file(pretrained)
    _check_writable(root, out)  # before all images are read
    if kept:
        dataset = load_description(out / DATASET)
        return _recipe_for(dataset, root, out, weights, backbone, workers, machine or this_machine())
    report = check_folder(root, workers, images=images, masks=masks, bands=bands)
    chosen, splits = choose_classes(report, classes), choose_splits(report, seed)
    lists = {root / LISTS.format(split=split): names for split, names in splits.drawn.items()}
    if lists and not os.access(root, os.W_OK):
        lists, splits = {}, replace(splits, lists=())  # the names are written into dataset.toml
    _keep_lists(report, lists)
    _refuse_to_overwrite(lists, force)
    name = slug(root)
    dataset_text = dataset_toml(name, root.resolve().name or name, report, chosen, splits)
    dataset = parse_description(dataset_text, str(out / DATASET))
    counts = {name: len(names) for name, names in splits.drawn.items()} or report.pairs_by_split
    shown = Split(splits.train, counts[splits.train]), Split(splits.val, counts[splits.val])
    recipe_text = _recipe_text(report, dataset, *shown, weights, backbone, machine or this_machine())
    recipe = _parsed(recipe_text, out, backbone)
    for path, names in lists.items():
        write_text(path, "".join(f"{name}\n" for name in names), "surrogateescape")
    write_text(out / DATASET, dataset_text)
    write_text(out / RECIPE, recipe_text)
    files = (*lists, out / DATASET, out / RECIPE)
    return InitResult(
        root, files, dataset, recipe, shown[0].images, shown[1].images, *_problems(report), splits.reasons
    )


def _recipe_for(
    dataset: DatasetDescription, root: Path, out: Path, weights: str, backbone: str, workers: int,
    machine: TrainingMachine,
) -> InitResult:  # fmt: skip
    """Write a recipe for a folder that has a description already."""
    names = [name for name in ("val", "test") if name in dataset.splits]
    if "train" not in dataset.splits or not names:
        raise DataError(
            f"{out / DATASET} has the splits {', '.join(dataset.splits)}; a recipe needs train, and val or test.",
            "Add them to its [splits], or remove the file: init then writes a new one.",
        )
    train, val = (Split(name, len(find_examples(dataset, root, name))) for name in ("train", names[0]))
    settings = BandSettings(dataset.bands.names, dataset.bands.nodata) if dataset.bands else None
    report = check_folder(root, workers, bands=settings)
    recipe_text = _recipe_text(report, dataset, train, val, weights, backbone, machine)
    recipe = _parsed(recipe_text, out, backbone)
    write_text(out / RECIPE, recipe_text)
    return InitResult(root, (out / RECIPE,), dataset, recipe, train.images, val.images, _problems(report)[0], (), ())


def _problems(report: FolderReport) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """The errors that would affect training, and the notes on what init chose."""
    errors = tuple(problem for problem in report.errors if problem.kind not in RESOLVED)
    return errors, tuple(problem for problem in report.problems if problem.kind in NOTED)


def slug(root: Path) -> str:
    """A name for files and commands from a folder name: letters, digits, _ and -."""
    word = re.sub(r"[^\w-]+", "_", root.resolve().name).strip("_-")
    return word or "images"


def _check_writable(root: Path, out: Path) -> None:
    """Raise OutputError if the files cannot be written."""
    if out != root:
        make_folder(out)
    elif root.is_dir() and not os.access(root, os.W_OK):
        elsewhere = f"fastfcn init {shlex.quote(str(root))} --out FOLDER"
        raise OutputError(f"Cannot write into {root}: it is read-only.", f"Write the files elsewhere: {elsewhere}")


def _keep_lists(report: FolderReport, drawn: Collection[Path]) -> None:
    """Raise DataError if lists of a random split would replace lists that cannot be used."""
    existing = [str(path) for path in drawn if path.exists()]
    reasons = [problem.message for problem in report.problems if problem.kind == "lists_not_used"]
    if existing and reasons:
        raise DataError(
            f"A random split would replace {', '.join(existing)}. {reasons[0]}",
            "Correct these lists, or move them out of the folder to get a random split.",
        )


def _refuse_to_overwrite(paths: Collection[Path], force: bool) -> None:
    existing = [str(path) for path in paths if path.exists()]
    if existing and not force:
        raise OutputError(f"{', '.join(existing)} already exists.", "Overwrite with --force, or choose another --out.")


def _weights_file(pretrained: str) -> str:
    """The value for the recipe; a file becomes an absolute path, because the recipe may be used from any folder."""
    if pretrained in ("imagenet", "none", "openmmlab", "official"):
        return pretrained
    path = Path(pretrained).expanduser()
    if not path.is_file():
        raise WeightsError(f"--pretrained: the file {path} does not exist.", 'Give a file, "imagenet" or "none".')
    return str(path.resolve())


def _recipe_text(
    report: FolderReport, dataset: DatasetDescription, train: Split, val: Split, weights: str, backbone: str,
    machine: TrainingMachine,
) -> str:  # fmt: skip
    pixels = _pixels(report, dataset)
    shares = tuple(count / max(sum(pixels), 1) for count in pixels)
    names = dataset.class_names
    bands = tuple(report.bands.counts) if report.bands else ()
    facts = Facts(train.images, val.images, report.sizes, names, shares, weights, backbone, machine, bands)
    return recipe_toml(slug(report.root), DATASET, train.name, val.name, facts, choose_loss(names, pixels))


def _parsed(text: str, out: Path, backbone: str) -> Recipe:
    """The recipe, with a check of a backbone that the user named. Raises RecipeError."""
    recipe = recipes.parse(text, str(out / RECIPE))
    if backbone:
        build.check_backbone(recipe)
    return recipe


def _pixels(report: FolderReport, dataset: DatasetDescription) -> list[int]:
    """Pixels per class, over all masks."""
    counts = {entry.value: entry.pixels for entry in report.values}
    return [sum(counts.get(v, 0) for v in entry.mask_values(dataset.labels_kind)) for entry in dataset.classes]
