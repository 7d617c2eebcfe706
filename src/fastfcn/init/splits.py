"""Training and validation splits: those of the folder, or randomly drawn ones."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import numpy as np

from fastfcn.checking.check import ExamplePaths, FolderReport, Layout
from fastfcn.data.description import placeholders
from fastfcn.data.layout import matching_placeholders
from fastfcn.data.masks import read_mask
from fastfcn.errors import DataError
from fastfcn.init.groups import Looks, group_images
from fastfcn.utils.text import is_line

VAL_FRACTION = 0.2
TRIES = 200  # random splits drawn, of which the best is used
MAX_MASKS = 400  # masks read to find out which classes they contain
LISTS = "splits/{split}.txt"
_PLACEHOLDER = re.compile(r"(?<!\{)\{(\w+)\}(?!\})")
_PLACEHOLDERS = re.compile(r"(?<!\{)\{\w+\}(/\{\w+\})*(?!\})")


@dataclass(frozen=True)
class Splits:
    """Training and validation splits, with the patterns of a dataset description.

    `drawn` maps each split to the names for its list file; empty if the folder has splits. `reasons` has one line each.
    """

    folders: tuple[str, ...]
    images: tuple[str, ...]
    labels: tuple[str, ...]
    lists: tuple[str, ...]
    splits: dict[str, str]
    train: str
    val: str
    reasons: tuple[str, ...]
    drawn: dict[str, list[str]] = field(default_factory=dict)


def choose_splits(report: FolderReport, seed: int) -> Splits:
    """Use the splits of the folder if it has two, else draw train and val with `seed`. Raises DataError."""
    layout = report.layout
    counts = {name: count for name, count in report.pairs_by_split.items() if count and name in layout.splits}
    if "train" in counts and len(counts) > 1:
        val = next((name for name in ("val", "test") if name in counts), None)
        val = val or next(name for name in counts if name != "train")
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        reasons = [f"The splits of the folder, in images: {listed}."]
        if val == "test":
            reasons.append("There is no val: test selects the best weights, so its scores are slightly optimistic.")
        used = {name: value for name, value in layout.splits.items() if name in counts}
        reasons += _unlisted(report)
        patterns = layout.folders, layout.images, layout.labels, layout.lists
        return Splits(*patterns, used, "train", val, tuple(reasons))
    return _draw_splits(report, max(counts, key=lambda name: counts[name]) if counts else "", seed, len(counts) > 1)


def _draw_splits(report: FolderReport, split: str, seed: int, others: bool) -> Splits:
    examples = {pair: example for pair, example in enumerate(report.examples()) if example.split == split}
    if len(examples) < 2:
        raise DataError(
            f"{report.root} has {len(examples)} image(s) with a mask; training and validation need at least 2.",
            f"Check the folder: fastfcn check {report.root}",
        )
    lists = _list_lines(report, examples, split)
    names = sorted(lists.by_name)
    pairs = np.array([lists.by_name[name] for name in names])
    looks = Looks(report.stats.fingerprints[pairs], report.stats.gradients[pairs])
    by_name = {name: examples[pair] for name, pair in lists.by_name.items()}
    drawn, reasons = draw(names, looks, lambda units: _classes_of(report, units, by_name), seed)
    if others:
        reasons.append(f"Only the images of the split {split!r} are used.")
    reasons += _unlisted(report)
    splits = {name: name for name in drawn}
    return Splits((".",), lists.images, lists.labels, (LISTS,), splits, "train", "val", tuple(reasons), drawn)


def _unlisted(report: FolderReport) -> list[str]:
    count = report.dataset.unlisted
    return [f"{count} images are in no split list, {report.layout.lists[0]}: they are not used."] if count else []


def draw(
    names: Sequence[str], looks: Looks, classes_of: Callable[[list[list[str]]], list[set]], seed: int
) -> tuple[dict[str, list[str]], list[str]]:
    """Draw train and val from the sorted `names`, groups of images as a whole; returns the names, and the reasons.

    `classes_of` returns the classes in each of several groups of names.
    """
    groups = group_images(names, looks)
    val_units = _best_draw(groups.units, classes_of(groups.units), seed)
    val = sorted(chain.from_iterable(groups.units[index] for index in val_units))
    drawn = {"train": sorted(set(names) - set(val)), "val": val}
    unit = "groups" if groups.reasons else "images"
    reasons = [
        f"Random split of {unit} with seed {seed}: {len(drawn['train'])} training and {len(val)} validation images.",
        *groups.reasons,
    ]
    if not groups.reasons:
        reasons.append("If these are video frames, keep each video in one list; neighboring frames are too similar.")
    return drawn, reasons


def _best_draw(units: list[list[str]], classes: list[set], seed: int) -> list[int]:
    """Choose units for validation: about VAL_FRACTION of all names, with every class in train and val if possible."""
    generator = np.random.default_rng(seed)
    sizes = [len(unit) for unit in units]
    target = VAL_FRACTION * sum(sizes)
    all_classes = set().union(*classes)
    best, least = [0], np.inf
    for _ in range(TRIES if all_classes or len(units) < MAX_MASKS else 1):
        val: list[int] = []
        for index in generator.permutation(len(units)).tolist():
            total = sum(sizes[unit] for unit in val)
            if len(val) + 1 < len(units) and (not val or abs(total + sizes[index] - target) < abs(total - target)):
                val.append(index)
            if total >= target:
                break
        trained = set().union(*(classes[index] for index in range(len(units)) if index not in set(val)))
        validated = set().union(*(classes[index] for index in val))
        missing = 2 * len(all_classes - trained) + len(all_classes - validated)
        cost = missing / max(len(all_classes), 1) + abs(sum(sizes[unit] for unit in val) - target) / sum(sizes)
        if cost < least:
            best, least = val, cost
    return best


def _classes_of(report: FolderReport, units: list[list[str]], by_name: dict[str, ExamplePaths]) -> list[set]:
    """The values in the masks of each unit, and its folders if they may be classes; reads at most MAX_MASKS masks."""
    count = MAX_MASKS // len(units)
    classes = [set().union(*(_values(report, by_name[name]) for name in _spread(unit, count))) for unit in units]
    if any(problem.kind == "class_folders" for problem in report.problems):
        classes = [
            values | {by_name[name].name.split("/")[0] for name in unit}
            for values, unit in zip(classes, units, strict=True)
        ]
    return classes


def _values(report: FolderReport, example: ExamplePaths) -> set:
    try:
        return set(np.unique(read_mask(report.root / example.mask, report.labels_kind)).tolist())
    except DataError:  # unreadable masks are reported by the check
        return set()


def _spread(names: list[str], count: int) -> list[str]:
    return [names[int(index)] for index in np.linspace(0, len(names) - 1, min(count, len(names)))]


class _ListLines(NamedTuple):
    """The patterns of a description with split lists, and the pair that each line of the lists names."""

    images: tuple[str, ...]
    labels: tuple[str, ...]
    by_name: dict[str, int]


def _list_lines(report: FolderReport, examples: dict[int, ExamplePaths], split: str) -> _ListLines:
    """Lines are names, or the paths of the images if names alone do not say where the files are. Raises DataError."""
    layout = report.layout
    named = _patterns(layout, split, lambda pattern: _PLACEHOLDERS.sub("{name}", pattern))
    if all(len(_PLACEHOLDER.findall(pattern)) == 1 for patterns in named for pattern in patterns):
        return _ListLines(*named, {_name_of(example, *named, report): pair for pair, example in examples.items()})
    paths = _patterns(layout, split, lambda pattern: pattern)
    return _ListLines(*paths, {_path_of(example, *paths, report): pair for pair, example in examples.items()})


def _patterns(layout: Layout, split: str, change: Callable[[str], str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The patterns of images and masks with the split filled in, after `change`."""

    def filled(folder: str, pattern: str) -> str:
        written = layout.splits.get(split, "").replace("{", "{{").replace("}", "}}")
        path = change(pattern.replace("{split}", written))
        return path if folder == "." else folder.replace("{", "{{").replace("}", "}}") + "/" + path

    images, labels = (
        tuple(dict.fromkeys(filled(folder, pattern) for folder in layout.folders for pattern in patterns))
        for patterns in (layout.images, layout.labels)
    )
    return images, labels


def _name_of(example: ExamplePaths, images: Sequence[str], labels: Sequence[str], report: FolderReport) -> str:
    """The value of `{name}` for an example. Raises DataError if one name cannot stand for both of its files."""
    for pattern in images:
        before, _, after = (piece.replace("{{", "{").replace("}}", "}") for piece in _PLACEHOLDER.split(pattern))
        if not (example.image.startswith(before) and example.image.endswith(after)):
            continue
        name = example.image[len(before) : len(example.image) - len(after)]
        if is_line(name) and any(pattern.format(name=name) == example.mask for pattern in labels):
            return name
    raise _not_writable(report, example)


def _path_of(example: ExamplePaths, images: Sequence[str], labels: Sequence[str], report: FolderReport) -> str:
    """The path of the image of an example. Raises DataError if the patterns do not lead from it to the mask."""
    for pattern in images:
        values = matching_placeholders(pattern, example.image)
        if values and is_line(example.image):
            complete = [label for label in labels if placeholders(label) <= values.keys()]
            if any(label.format(**values) == example.mask for label in complete):
                return example.image
    raise _not_writable(report, example)


def _not_writable(report: FolderReport, example: ExamplePaths) -> DataError:
    return DataError(
        f"{report.root}: {example.image} and {example.mask} have names that cannot be written to a split list.",
        "Move the images and masks into folders for train and val, or rename them.",
    )
