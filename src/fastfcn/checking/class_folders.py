"""Folders of one class each: every mask marks one class, and the folders may name it (MT_Crack/Imgs/a.png)."""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fastfcn.checking.layouts import DatasetFiles, folder_of
from fastfcn.checking.matching import shared_folders
from fastfcn.checking.problem import INIT, WARNING, Problem, fix_with
from fastfcn.checking.value_problems import MaskIds

MAX_FOLDERS = 30
BACKGROUND = "background"
GENERIC = {BACKGROUND, "foreground"}  # the names that `init` gives if it knows no other


class ClassFolders(NamedTuple):
    """The `marked` id of all masks, the `names` of the folders with masks that contain it, and the pairs in each."""

    marked: int
    names: list[str]
    pairs: dict[str, list[int]]

    @property
    def ids(self) -> dict[int, int]:
        """The id of the class of each pair, counted from 1 by folder."""
        return {pair: number for number, name in enumerate(self.names, start=1) for pair in self.pairs[name]}

    @property
    def list_text(self) -> str:
        """The class list for these ids."""
        return "".join(f"{name}\n" for name in (BACKGROUND, *self.names))


def find_class_folders(mask_ids: MaskIds) -> ClassFolders | None:
    """The folders, if all masks contain 0 and one other id, nothing names the classes, and the folders have words."""
    values = [entry.value for entry in mask_ids.values]
    if len(values) != 2 or values[0] != 0 or not isinstance(values[1], int):
        return None
    dataset, marked = mask_ids.dataset, values[1]
    if not dataset.match.images.name_depth or not set(mask_ids.named.values()) <= GENERIC:
        return None
    pairs: dict[str, list[int]] = defaultdict(list)
    for pair in np.flatnonzero(mask_ids.containing(marked)).tolist():
        pairs[_folder_name(dataset, dataset.images[pair])].append(pair)
    names = sorted(pairs)
    words = {"".join(letter for letter in name if not letter.isdigit()) for name in names}
    if not 2 <= len(names) <= MAX_FOLDERS or len(words) < len(names):  # seq01, seq02 are no classes
        return None
    return ClassFolders(marked, names, dict(pairs))


def _folder_name(dataset: DatasetFiles, number: int) -> str:
    """The outermost folder that is part of the name of an image."""
    rule = dataset.match.images
    return shared_folders(rule, folder_of(dataset.contents, rule, number))[0]


def class_folder_problems(mask_ids: MaskIds) -> Iterator[Problem]:
    """A note that the folders may be classes."""
    folders = find_class_folders(mask_ids)
    if folders:
        shown = ", ".join(folders.names[:8]) + (", ..." if len(folders.names) > 8 else "")
        message = f"All masks mark one class ({folders.marked}); the folders may name different ones: {shown}."
        advice = INIT + "uses one class, with any folder. " + fix_with("folders")
        advice += "makes the masks of each folder a separate class."
        yield Problem("class_folders", WARNING, 1, (), message, advice)
