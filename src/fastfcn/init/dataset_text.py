"""The description of a data set as text, with comments."""

from collections.abc import Iterator, Sequence
from typing import Any

from fastfcn.checking.check import FolderReport
from fastfcn.data.description import IgnoredValue, SegmentationClass
from fastfcn.init.classes import Classes
from fastfcn.init.recipe_text import comment
from fastfcn.init.splits import Splits
from fastfcn.recipes.validation import toml_text

HEADER = """\
# Drafted by `fastfcn init` from what is in the folder; names and colours are yours to change.
"""


def draft_dataset(name: str, title: str, report: FolderReport, found: Classes, splits: Splits) -> str:
    """The TOML of a data set: patterns, splits, classes with colours and ids."""
    return HEADER + "\n".join([*_head(name, title, report, splits), *_classes(report, found), ""])


def _head(name: str, title: str, report: FolderReport, splits: Splits) -> Iterator[str]:
    yield "format = 1"
    yield f"name = {toml_text(name)}"
    yield f"title = {toml_text(title)}"
    yield 'home = ""'
    what = "Its colour says" if report.labels_kind == "color" else "Its number says"
    yield from comment(f"{what} what a pixel of a mask is.")
    yield f"labels_kind = {toml_text(report.labels_kind)}"
    yield from comment(f"{report.pairs} images have a mask. Patterns begin in the data folder; braces match any text.")
    for key in ("folders", "images", "labels"):
        yield f"{key} = {toml_text(list(getattr(splits, key)))}"
    for reason in splits.reasons:
        yield from comment(reason)
    yield f"lists = {toml_text(list(splits.lists))}"
    yield f"splits = {toml_text(splits.splits)}"


def _classes(report: FolderReport, found: Classes) -> Iterator[str]:
    for reason in found.reasons:
        yield from comment(reason)
    total = sum(each.pixels for each in report.values)
    counts: dict[Any, tuple[int, int]] = {each.value: (each.pixels, each.images) for each in report.values}
    for key, entries in (("ignored", found.ignored), ("classes", found.classes)):
        if not entries:
            yield f"{key} = []"
            continue
        yield f"{key} = ["
        for entry in entries:
            values: Sequence = entry.ids if report.labels_kind == "index" else [entry.color]
            pixels, images = (sum(counts.get(value, (0, 0))[at] for value in values) for at in (0, 1))
            share = f"{pixels / max(total, 1):.2%} of the pixels, in {images} images" if pixels else "in no mask"
            yield f"  {_entry(entry)},  # {share}"
        yield "]"


def _entry(entry: SegmentationClass | IgnoredValue) -> str:
    values = entry.model_dump(exclude_none=True)
    if not values["ids"]:
        del values["ids"]
    return "{ " + ", ".join(f"{key} = {toml_text(value)}" for key, value in values.items()) + " }"
