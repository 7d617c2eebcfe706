"""What defines the dataset of a run, recorded at its start and compared when it is resumed."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastfcn.data.dataset import Dataset
from fastfcn.data.packed import PackedExamples, class_facts, names_hash
from fastfcn.errors import DataError
from fastfcn.utils.files import write_text

LISTED = 8  # differences in a message


def fingerprint(splits: Mapping[str, Dataset]) -> dict[str, Any]:
    """Classes, ignored values, and the names and file sizes of the examples of each split, as JSON values."""
    description = next(iter(splits.values())).description
    return class_facts(description) | {"splits": {name: _split(dataset) for name, dataset in splits.items()}}


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a fingerprint to `path`, atomically."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def differences(path: Path, now: dict[str, Any]) -> list[str]:
    """What has changed since the fingerprint at `path` was written: one line each; none if there is no such file."""
    if not path.exists():  # a run of an earlier version
        return []
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        lines = [*_changed_classes(before["classes"], now["classes"]), *_changed(before, now, "ignored", "ignored")]
        lines += _changed(before, now, "labels_kind", "labels_kind")
        lines += _changed({"bands": None} | before, {"bands": None} | now, "bands", "bands")
        for name, split in now["splits"].items():
            lines += _changed_split(name, before["splits"][name], split)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError) as error:
        raise DataError(
            f"{path} is damaged, so that the dataset cannot be compared with that of the run.",
            f"Remove {path} to resume without comparing.",
        ) from error
    return lines


def table(lines: list[str]) -> str:
    """The first differences, indented."""
    more = [f"and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return "\n".join(f"  {line}" for line in [*lines[:LISTED], *more])


def _split(dataset: Dataset) -> dict[str, Any]:
    if isinstance(dataset.examples, PackedExamples):
        return dataset.examples.totals()
    return {
        "images": len(dataset.examples),
        "names": names_hash(files.name for files in dataset.examples),
        "image_bytes": sum(_size(files.image_path) for files in dataset.examples),
        "mask_bytes": sum(_size(files.label_path) for files in dataset.examples),
    }


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"Cannot read {path}: {(error.strerror or str(error)).lower()}.") from error


def _changed_classes(before: list[dict], now: list[dict]) -> Iterator[str]:
    if len(before) != len(now):
        yield f"classes: {len(before)} in the run, {len(now)} now"
    for index, (old, new) in enumerate(zip(before, now, strict=False)):
        old, new = {"colors": [], **old}, {"colors": [], **new}
        keys = [key for key in ("name", "color", "ids", "colors") if old[key] != new[key]]
        if keys:
            values = (", ".join(f"{key} {entry[key]}" for key in keys) for entry in (old, new))
            yield f"class {index} ({old['name']}): {' in the run, '.join(values)} now"


def _changed(before: dict, now: dict, key: str, name: str) -> Iterator[str]:
    if before[key] != now[key]:
        yield f"{name}: {before[key]} in the run, {now[key]} now"


def _changed_split(name: str, before: dict, now: dict) -> Iterator[str]:
    if before["images"] != now["images"]:
        yield f"{name}: {before['images']} images in the run, {now['images']} now"
    elif before["names"] != now["names"]:
        yield f"{name}: other names of the {now['images']} images"
    else:
        for key, title in (("image_bytes", "images"), ("mask_bytes", "masks")):
            yield from _changed(before, now, key, f"{name}, bytes of all {title}")
