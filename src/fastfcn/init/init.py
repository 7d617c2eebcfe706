"""`fastfcn init`: write a dataset description and a recipe for a folder of images and masks."""

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastfcn import recipes
from fastfcn.checking.check import FolderReport, check_folder
from fastfcn.checking.problem import Problem
from fastfcn.data.description import DatasetDescription, parse_description
from fastfcn.errors import OutputError, WeightsError
from fastfcn.init.choices import Facts, TrainingMachine, choose_loss, this_machine
from fastfcn.init.classes import choose_classes
from fastfcn.init.splits import LISTS, Splits, choose_splits
from fastfcn.init.toml_files import dataset_toml, recipe_toml
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.files import write_text

DATASET, RECIPE = "dataset.toml", "recipe.toml"
# Errors that the written dataset description resolves, because it defines what these values mean.
RESOLVED = frozenset({"binary_255", "stretched_ids"})


@dataclass(frozen=True)
class InitResult:
    """The written `files`, in order; `errors` are problems of the dataset that would affect training."""

    root: Path
    files: tuple[Path, ...]
    description: DatasetDescription
    recipe: Recipe
    train: int
    val: int
    errors: tuple[Problem, ...]

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
) -> InitResult:  # fmt: skip
    """Check the folder `root` and write dataset.toml, recipe.toml and, if it has no splits, lists of a random split.

    The TOML files go to `out`, by default `root`. `classes` are names in the order of the mask values; `pretrained` is
    "imagenet", "none" or a weights file; `backbone` is the name of a timm ResNet; `seed` is for the random split.
    Raises OutputError if one of the files exists and `force` is not set, and DataError if the folder cannot be used.
    """
    root, out = Path(root), Path(root if out is None else out)
    _refuse_to_overwrite([out / DATASET, out / RECIPE], force)
    weights = _weights_file(pretrained)
    report = check_folder(root, workers)
    chosen, splits = choose_classes(report, classes), choose_splits(report, seed)
    lists = {root / LISTS.format(split=split): names for split, names in splits.drawn.items()}
    _refuse_to_overwrite(lists, force)
    if lists and not os.access(root, os.W_OK):
        raise OutputError(
            f"{root} has no train and val, and lists of a random split cannot be written there: it is read-only.",
            f"Link its folders in a writable one: mkdir DIR && ln -s {shlex.quote(str(root.resolve()))}/* DIR/ "
            "&& fastfcn init DIR",
        )
    name = slug(root)
    dataset_text = dataset_toml(name, root.resolve().name or name, report, chosen, splits)
    dataset = parse_description(dataset_text, str(out / DATASET))
    facts = _facts(report, dataset, splits, weights, backbone, machine or this_machine())
    loss = choose_loss(dataset.class_names, _pixels(report, dataset))
    recipe_text = recipe_toml(name, DATASET, splits.train, splits.val, facts, loss)
    recipe = recipes.parse(recipe_text, str(out / RECIPE))
    for path, names in lists.items():
        write_text(path, "".join(f"{name}\n" for name in names), "surrogateescape")
    write_text(out / DATASET, dataset_text)
    write_text(out / RECIPE, recipe_text)
    files = (*lists, out / DATASET, out / RECIPE)
    errors = tuple(problem for problem in report.errors if problem.kind not in RESOLVED)
    return InitResult(root, files, dataset, recipe, facts.train, facts.val, errors)


def slug(root: Path) -> str:
    """A name for files and commands from a folder name: letters, digits, _ and -."""
    word = re.sub(r"[^\w-]+", "_", root.resolve().name).strip("_-")
    return word or "images"


def _refuse_to_overwrite(paths: Sequence[Path] | dict[Path, list[str]], force: bool) -> None:
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


def _facts(
    report: FolderReport,
    dataset: DatasetDescription,
    splits: Splits,
    weights: str,
    backbone: str,
    machine: TrainingMachine,
) -> Facts:
    counts = {name: len(names) for name, names in splits.drawn.items()} or report.pairs_by_split
    pixels = _pixels(report, dataset)
    shares = tuple(count / max(sum(pixels), 1) for count in pixels)
    train, val = counts[splits.train], counts[splits.val]
    return Facts(train, val, report.sizes, dataset.class_names, shares, weights, backbone, machine)


def _pixels(report: FolderReport, dataset: DatasetDescription) -> list[int]:
    """Pixels per class, over all masks."""
    counts = {entry.value: entry.pixels for entry in report.values}
    colored = dataset.labels_kind == "color"
    return [sum(counts.get(v, 0) for v in ([entry.color] if colored else entry.ids)) for entry in dataset.classes]
