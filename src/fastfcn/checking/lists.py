"""Text files that say which examples belong to which split, as Pascal VOC's ImageSets/Segmentation/train.txt."""

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fastfcn.checking.folder_names import SPLITS, canonical_split

LISTED = 255  # the number of no split
SHOWN = 1000  # names without an image that are kept


@dataclass
class SplitLists:
    """The lists of one folder: `pattern` with {split}, the splits with the sorted keys that their lists name, and
    names that no image has."""

    pattern: str
    splits: dict[str, str]
    keys: list[np.ndarray]
    unknown: list[str] = field(default_factory=list)  # "LIST: NAME"

    def numbers(self, keys: np.ndarray) -> np.ndarray:
        """The number of the last split that names each key (so that what is evaluated stays so), LISTED for none."""
        numbers = np.full(len(keys), LISTED, np.uint8)
        for number in range(len(self.keys)):
            numbers[np.isin(keys, self.keys[number])] = number
        return numbers

    def in_two(self, keys: np.ndarray) -> np.ndarray:
        """Which keys several lists name."""
        named = [np.isin(keys, each) for each in self.keys]
        return np.sum(named, axis=0) > 1


def name_key(name: str) -> int:
    """The key that matching.keys gives an example without split and folders."""
    return hash((("",), name))


def read_lists(root: Path, texts: list[str], image_keys: np.ndarray) -> SplitLists | None:
    """The lists among the `texts` whose lines are names of images; those of train and val must be there."""
    folders: dict[str, dict[str, str]] = {}
    for text in texts:
        folder, name = os.path.split(text)
        written = name.removesuffix(".txt")
        if written.lower() in SPLITS:
            folders.setdefault(folder, {})[canonical_split(written)] = written
    for folder, splits in sorted(folders.items()):
        found = _read(root, folder, splits, image_keys)
        if found:
            return found
    return None


def _read(root: Path, folder: str, splits: dict[str, str], image_keys: np.ndarray) -> SplitLists | None:
    order = [split for split in ("train", "val", "test") if split in splits]
    pattern = f"{folder}/{{split}}.txt" if folder else "{split}.txt"
    known = np.sort(image_keys)
    found = SplitLists(pattern, {}, [])
    for split in order:
        path = pattern.format(split=splits[split])
        listed = np.unique(np.frombuffer(array("q", map(name_key, lines(root / path))), np.int64))
        if 2 * np.isin(listed, known).sum() < len(listed) or not len(listed):
            continue  # a list of something else, or of images that are not here
        found.splits[split] = splits[split]
        found.keys.append(listed)
        missing = {int(key) for key in listed[~np.isin(listed, known)][:SHOWN]}
        found.unknown += [f"{path}: {name}" for name in lines(root / path) if missing and name_key(name) in missing]
    return found if "train" in found.splits else None


def lines(path: Path) -> Iterator[str]:
    """The lines of a text that are not empty."""
    with path.open(encoding="utf-8", errors="surrogateescape") as text:
        yield from (line.strip() for line in text if line.strip())
