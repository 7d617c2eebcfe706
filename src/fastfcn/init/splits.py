"""Which images are trained on and which are held out, where the folder does not say."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from fastfcn.checking.check import ExamplePaths, FolderReport, Layout
from fastfcn.data.masks import read_mask
from fastfcn.errors import DataError

HELD_OUT = 0.2  # share of the images
TRIES = 200  # of drawing splits, of which the best is taken
READ = 400  # masks that are read to see which classes are where
LISTS = "splits/{split}.txt"
_PLACEHOLDER = re.compile(r"(?<!\{)\{(\w+)\}(?!\})")
_LAST_NUMBER = re.compile(r"(.*?)(\d+)(\D*)", re.S)


@dataclass(frozen=True)
class Splits:
    """Splits to train on and to validate with, in patterns of a data set's description.

    `drawn`: split -> names for its list file, empty where the folder has splits; `reasons` has a line each.
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


def draft_splits(report: FolderReport, seed: int) -> Splits:
    """The folder's own splits where it has two, else train and val drawn by `seed`; raises DataError."""
    layout = report.layout
    there = {name: count for name, count in report.pairs_by_split.items() if count and name in layout.splits}
    if "train" in there and len(there) > 1:
        val = next((name for name in ("val", "test") if name in there), None)
        val = val or next(name for name in there if name != "train")
        counts = ", ".join(f"{name} {count}" for name, count in there.items())
        reasons = [f"The folder's own splits: {counts} images."]
        if val == "test":
            reasons.append("There is no val: test picks the best weights, so its score is somewhat flattered.")
        used = {name: value for name, value in layout.splits.items() if name in there}
        places = layout.folders, layout.images, layout.labels, layout.lists
        return Splits(*places, used, "train", val, tuple(reasons))
    return _drawn(report, max(there, key=lambda name: there[name]) if there else "", seed, len(there) > 1)


def _drawn(report: FolderReport, split: str, seed: int, others: bool) -> Splits:
    examples = [each for each in report.examples() if each.split == split]
    if len(examples) < 2:
        raise DataError(
            f"{report.root} has {len(examples)} image(s) with a mask: too few to train on some and hold out others.",
            f"See what is missing: fastfcn check {report.root}",
        )
    images, labels = _single_name(report.layout, split)
    by_name = {_name_of(each, images, labels, report): each for each in examples}
    groups = sequences(sorted(by_name))
    units = list(groups.values()) if groups else [[name] for name in sorted(by_name)]
    held_out = _best_draw(units, _classes_of(report, units, by_name), seed)
    val = sorted(chain.from_iterable(units[index] for index in held_out))
    drawn = {"train": sorted(by_name.keys() - set(val)), "val": val}
    reasons = [f"Drawn with seed {seed}, since the folder has no train and val: {len(drawn['train'])} and {len(val)}."]
    if groups:
        shown = ", ".join(repr(unit[0]) for unit in units[:2])
        reasons.append(
            f"The names show {len(groups)} sequences ({shown}, ...): each is as a whole in one of them, for "
            "neighbouring frames would give the answers away."
        )
    else:
        reasons.append("If these are frames of videos, put whole videos into one list: neighbors are too similar.")
    if others:
        reasons.append(f"Only the folder's split {split!r} is used.")
    splits = {name: name for name in drawn}
    return Splits((".",), images, labels, (LISTS,), splits, "train", "val", tuple(reasons), drawn)


def sequences(names: Sequence[str]) -> dict[str, list[str]]:
    """The names by what stands before their last number, where that shows sequences; else empty.

    It does where at least two such beginnings have three names or more each, and together four of five names.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        match = _LAST_NUMBER.fullmatch(name)
        groups[match[1] + match[3] if match else name].append(name)
    long = [group for group in groups.values() if len(group) >= 3]
    return dict(groups) if len(long) >= 2 and sum(map(len, long)) >= 0.8 * len(names) else {}


def _best_draw(units: list[list[str]], classes: list[set], seed: int) -> list[int]:
    """Which units to hold out: about HELD_OUT of all names, so that train and val have every class if they can."""
    generator = np.random.default_rng(seed)
    sizes = [len(unit) for unit in units]
    wanted = HELD_OUT * sum(sizes)
    every = set().union(*classes)
    best, least = [0], np.inf
    for _ in range(TRIES if every or len(units) < READ else 1):
        held: list[int] = []
        for index in generator.permutation(len(units)).tolist():
            total = sum(sizes[each] for each in held)
            if len(held) + 1 < len(units) and (not held or abs(total + sizes[index] - wanted) < abs(total - wanted)):
                held.append(index)
            if total >= wanted:
                break
        trained = set().union(*(classes[index] for index in range(len(units)) if index not in set(held)))
        lacking = 2 * len(every - trained) + len(every - set().union(*(classes[index] for index in held)))
        badness = lacking / max(len(every), 1) + abs(sum(sizes[each] for each in held) - wanted) / sum(sizes)
        if badness < least:
            best, least = held, badness
    return best


def _classes_of(report: FolderReport, units: list[list[str]], by_name: dict[str, ExamplePaths]) -> list[set]:
    """The values in each unit's masks, of as many of them as READ allows; nothing where that is none."""
    each = READ // len(units)
    return [set().union(*(_values(report, by_name[name]) for name in _spread(unit, each))) for unit in units]


def _values(report: FolderReport, example: ExamplePaths) -> set:
    try:
        return set(np.unique(read_mask(report.root / example.mask, report.labels_kind)).tolist())
    except DataError:  # broken: the survey has said so
        return set()


def _spread(names: list[str], count: int) -> list[str]:
    return [names[int(index)] for index in np.linspace(0, len(names) - 1, min(count, len(names)))]


def _single_name(layout: Layout, split: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The patterns with `{name}` as their one placeholder, which a list can give; slashes may be in it."""

    def single(folder: str, pattern: str) -> str:
        written = layout.splits.get(split, "").replace("{", "{{").replace("}", "}}")
        whole = pattern.replace("{split}", written)
        whole = re.sub(r"(?<!\{)\{\w+\}(/\{\w+\})*(?!\})", "{name}", whole)
        return whole if folder == "." else folder.replace("{", "{{").replace("}", "}}") + "/" + whole

    images, labels = (
        tuple(dict.fromkeys(single(folder, pattern) for folder in layout.folders for pattern in patterns))
        for patterns in (layout.images, layout.labels)
    )
    return images, labels


def _name_of(example: ExamplePaths, images: Sequence[str], labels: Sequence[str], report: FolderReport) -> str:
    """What `{name}` stands for in an example; raises DataError where one name cannot give both of its files."""
    for pattern in images:
        pieces = _PLACEHOLDER.split(pattern)
        if len(pieces) != 3:
            continue
        before, after = (piece.replace("{{", "{").replace("}}", "}") for piece in (pieces[0], pieces[2]))
        if not (example.image.startswith(before) and example.image.endswith(after)):
            continue
        name = example.image[len(before) : len(example.image) - len(after)]
        if name == name.strip() and name and any(each.format(name=name) == example.mask for each in labels):
            return name
    raise DataError(
        f"{report.root}: {example.image} and {example.mask} have names from which no list of a split can be made.",
        f"Have them laid out in train and val: fastfcn check {report.root} --fix OUT, or move them yourself.",
    )
