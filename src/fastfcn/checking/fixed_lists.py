"""The other files of a corrected copy: split lists without missing names, and files that are copied as they are."""

import os
from collections.abc import Callable, Iterator, Set
from pathlib import Path

from fastfcn.checking.check import FolderReport
from fastfcn.checking.file_problems import misspelled_pairs
from fastfcn.utils.text import read_lines


def fixed_split_lists(report: FolderReport, left_out: Set[int], one_split: bool) -> Iterator[tuple[str, bytes, int]]:
    """Yield the path, the new contents and the number of removed names of each split list that has to change.

    Removed are the names of images that are `left_out` or missing, and, if `one_split`, from the training list those
    that another list names too.
    """
    lists, dataset = report.dataset.lists, report.dataset
    if not lists:
        return
    removed = {lists.key(dataset.name(number)) for number in [*left_out, *_without_mask(report)]}
    unknown: dict[str, set[int]] = {}
    for entry in lists.unknown:
        path, _, name = entry.partition(": ")
        unknown.setdefault(path, set()).add(lists.key(name))
    twice = {lists.key(dataset.name(number)) for number in dataset.in_two_lists} if one_split else set()
    for split, written in lists.splits.items():
        path = lists.pattern.format(split=written)
        gone = removed | unknown.get(path, set()) | (twice if split == "train" else set())
        names = read_lines(report.root / path, "surrogateescape")
        kept = [name for name in names if lists.key(name) not in gone]
        if len(kept) < len(names):
            data = "".join(f"{name}\n" for name in kept).encode("utf-8", "surrogateescape")
            yield path, data, len(names) - len(kept)


def _without_mask(report: FolderReport) -> Iterator[int]:
    """Images that are left out because they have no mask, although others of their split have one."""
    dataset = report.dataset
    misspelled, labeled = misspelled_pairs(dataset), set(dataset.splits)
    for number, split in zip(dataset.images_alone, dataset.alone_splits, strict=True):
        if split in labeled and number not in misspelled:
            yield number


def other_files(root: Path, out: Path, omitted: Set[str], copy: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    """Copy the files below `root` that are not in the copy yet, except `omitted`; yield those left out, with reason."""
    seen = {os.path.realpath(root)}
    for folder, folders, files in os.walk(root, followlinks=True):
        place = Path(folder).relative_to(root)
        for name in sorted(folders):
            path = (place / name).as_posix()
            real = os.path.realpath(root / path)
            if name.startswith(".") or name == "__MACOSX" or real in seen:
                folders.remove(name)
                yield path, "left out: a hidden folder" if real not in seen else "left out: a link to another folder"
            seen.add(real)
        for name in sorted(files):
            path = (place / name).as_posix()
            if name.startswith(".") or not (root / path).is_file():
                yield path, "left out: a hidden or special file"
            elif path == "CHANGES.txt":
                yield path, "left out: replaced by this list"
            elif path not in omitted and not (out / path).exists():
                try:
                    copy(path)
                except PermissionError:
                    yield path, "left out: it cannot be read"
