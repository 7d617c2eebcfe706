"""`fastfcn init`: from a folder of images and masks to a data set's description and a recipe, drafted to be edited."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastfcn import recipes
from fastfcn.checking.check import FolderReport, check_folder
from fastfcn.checking.problem import Problem
from fastfcn.data.description import DataSetDescription, parse_description
from fastfcn.errors import OutputError, WeightsError
from fastfcn.init.choices import Facts
from fastfcn.init.classes import draft_classes
from fastfcn.init.dataset_text import draft_dataset
from fastfcn.init.imbalance import draft_loss
from fastfcn.init.machine import TrainingMachine, this_machine
from fastfcn.init.recipe_text import draft_recipe
from fastfcn.init.splits import LISTS, Splits, draft_splits
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.files import write_text

DATASET, RECIPE = "dataset.toml", "recipe.toml"
# Errors where masks are read as most programs do; a description says what these values mean.
MENDED = frozenset({"binary_255", "stretched_ids"})


@dataclass(frozen=True)
class Drafted:
    """What was written: `files` in the order of writing; `errors` are problems of the data that training would meet."""

    root: Path
    files: tuple[Path, ...]
    description: DataSetDescription
    recipe: Recipe
    train: int
    val: int
    errors: tuple[Problem, ...]

    @property
    def recipe_file(self) -> Path:
        return self.files[-1]

    def commands(self) -> list[str]:
        """What to run next, from the folder in which `fastfcn init` was run."""
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
) -> Drafted:  # fmt: skip
    """Look at the folder `root`, and write dataset.toml, recipe.toml and lists of splits into it (the first two into
    `out` where that is given).

    `classes` are names in the order of the masks' values; `pretrained` is "imagenet", "none" or a file; `backbone` a
    ResNet of timm's; `seed` draws the splits where the folder has none. Raises OutputError where one of the files is
    there already and `force` is not set, and DataError where the folder cannot be made sense of.
    """
    root, place = Path(root), Path(root if out is None else out)
    _refuse_to_overwrite([place / DATASET, place / RECIPE], force)
    weights = _weights_file(pretrained)
    found = check_folder(root, workers)
    labels, splits = draft_classes(found, classes), draft_splits(found, seed)
    lists = {root / LISTS.format(split=split): names for split, names in splits.drawn.items()}
    _refuse_to_overwrite(lists, force)
    name = slug(root)
    title = root.resolve().name or name
    dataset = draft_dataset(name, title, found, labels, splits)
    about = parse_description(dataset, str(place / DATASET))
    facts = _facts(found, about, splits, weights, backbone, machine or this_machine())
    loss = draft_loss(about.class_names, _pixels(found, about))
    text = draft_recipe(name, DATASET, splits.train, splits.val, facts, loss)
    drafted = recipes.parse(text, str(place / RECIPE))
    for path, names in lists.items():
        write_text(path, "".join(f"{each}\n" for each in names))
    write_text(place / DATASET, dataset)
    write_text(place / RECIPE, text)
    files = (*lists, place / DATASET, place / RECIPE)
    return Drafted(
        root,
        files,
        about,
        drafted,
        facts.train,
        facts.val,
        tuple(each for each in found.errors if each.kind not in MENDED),
    )


def slug(root: Path) -> str:
    """The name of a folder as a name of files and of the command line: letters, digits, _ and -."""
    word = re.sub(r"[^\w-]+", "_", root.resolve().name).strip("_-")
    return word or "images"


def _refuse_to_overwrite(paths: Sequence[Path] | dict[Path, list[str]], force: bool) -> None:
    there = [str(path) for path in paths if path.exists()]
    if there and not force:
        raise OutputError(f"{', '.join(there)}: there already.", "Overwrite it with --force, or choose another --out.")


def _weights_file(pretrained: str) -> str:
    """As a recipe says it: a file by its whole path, since the recipe may be used from anywhere."""
    if pretrained in ("imagenet", "none", "openmmlab", "official"):
        return pretrained
    path = Path(pretrained).expanduser()
    if not path.is_file():
        raise WeightsError(f"--pretrained: there is no file {path}.", 'Give a file of weights, "imagenet" or "none".')
    return str(path.resolve())


def _facts(
    found: FolderReport,
    about: DataSetDescription,
    splits: Splits,
    weights: str,
    backbone: str,
    machine: TrainingMachine,
) -> Facts:
    counts = {name: len(names) for name, names in splits.drawn.items()} or found.pairs_by_split
    pixels = _pixels(found, about)
    shares = tuple(each / max(sum(pixels), 1) for each in pixels)
    train, val = counts[splits.train], counts[splits.val]
    return Facts(train, val, found.sizes, about.class_names, shares, weights, backbone, machine)


def _pixels(found: FolderReport, about: DataSetDescription) -> list[int]:
    """Pixels of each class, over all masks."""
    counts = {each.value: each.pixels for each in found.values}
    colored = about.labels_kind == "color"
    return [sum(counts.get(v, 0) for v in ([each.color] if colored else each.ids)) for each in about.classes]
