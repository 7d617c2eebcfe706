"""Split lists in a folder: text files whose lines name the images of train, val and test."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastfcn.checking.files import stem_and_suffix
from fastfcn.checking.folder_names import NO_AFFIX, SPLITS, Affix, braced, canonical_split
from fastfcn.data.layout import columns_of, listed_names
from fastfcn.errors import DataError
from fastfcn.utils.text import read_lines

UNLISTED = 255  # split number of images that no list names
LIST_WORDS = frozenset(
    ["list", "lists", "id", "ids", "set", "split", "file", "files", "image", "images", "name", "names"]
)
MAX_UNKNOWN = 1000  # names without an image that are kept per list


class KnownFiles(NamedTuple):
    """The images or masks that split lists can name: their sorted `keys`, and the `affix` around their names.

    Where folders are part of the names, `paths` are the sorted hashes of the files' paths and full names, and
    `path_keys` the key of each.
    """

    keys: np.ndarray
    affix: Affix = NO_AFFIX
    paths: np.ndarray = np.zeros(0, np.int64)
    path_keys: np.ndarray = np.zeros(0, np.int64)


@dataclass
class SplitLists:
    """Text files with the names of each split, such as Pascal VOC's ImageSets/Segmentation/train.txt.

    `pattern` contains {split}; `keys` are the sorted keys of the names in each split's list; `unknown` are names that
    no image has, and `other_masks` lines with the mask of another image.
    """

    pattern: str
    splits: dict[str, str]
    keys: list[np.ndarray]
    images: KnownFiles
    masks: KnownFiles
    unknown: list[str] = field(default_factory=list)  # "LIST: NAME"
    other_masks: list[str] = field(default_factory=list)  # "LIST: LINE"

    def key(self, line: str) -> int:
        """The key of the image that a line of a list names, or of the line itself if no image has that name."""
        return _listed_key(line, self.images)

    def names_other_mask(self, line: str) -> bool:
        """Whether a line has the paths of an image and of the mask of another one."""
        return any(
            self.key(first) == self.key(line) and (key := _listed_key(second, self.masks)) != self.key(line)
            and _position(self.masks.keys, key) is not None
            for first, second in columns_of(line)
        )  # fmt: skip

    def numbers(self, keys: np.ndarray) -> np.ndarray:
        """The number of the last split that lists each key (so evaluation splits win), or UNLISTED."""
        numbers = np.full(len(keys), UNLISTED, np.uint8)
        for number in range(len(self.keys)):
            numbers[np.isin(keys, self.keys[number])] = number
        return numbers

    def in_two(self, keys: np.ndarray) -> np.ndarray:
        """Which keys are in more than one list; bool."""
        named = [np.isin(keys, listed) for listed in self.keys]
        return np.sum(named, axis=0) > 1


def name_key(name: str) -> int:
    """The key that `matching.keys` assigns to a name without split and folders."""
    return hash((("",), name))


def list_files(texts: list[str]) -> dict[str, dict[str, str]]:
    """Files named like split lists: pattern -> split -> path. train.txt is one, and so is train_list.csv."""
    patterns: dict[str, dict[str, str]] = {}
    for text in texts:
        folder, name = os.path.split(text)
        stem, suffix = stem_and_suffix(name)
        words = re.split(r"([_\-. ])", stem)
        splits = [number for number, word in enumerate(words) if word.lower() in SPLITS]
        if len(splits) != 1 or not {w.lower() for w in words[::2] if w.lower() not in SPLITS} <= LIST_WORDS:
            continue
        before, after = (braced("".join(part)) for part in (words[: splits[0]], words[splits[0] + 1 :]))
        pattern = (f"{braced(folder)}/" if folder else "") + f"{before}{{split}}{after}{suffix}"
        patterns.setdefault(pattern, {})[canonical_split(words[splits[0]])] = text
    return patterns


def read_lists(
    root: Path, texts: list[str], images: KnownFiles, masks: KnownFiles, unused: list[str]
) -> SplitLists | None:
    """Find split lists among the `texts`: files for train and val whose lines are names of images.

    Lists that are not used are added to `unused` with the reason.
    """
    chosen = None
    # Pascal VOC comes with lists for other tasks; those for segmentation come first.
    for pattern, paths in sorted(list_files(texts).items(), key=lambda item: ("Segmentation" not in item[0], item[0])):
        if not chosen:
            chosen = _read_pattern(root, SplitLists(pattern, {}, [], images, masks), paths, unused)
        elif not pattern.startswith("ImageSets/"):
            unused += [f"{path} ({chosen.pattern} is used)" for path in paths.values()]
    return chosen


def _read_pattern(root: Path, lists: SplitLists, paths: dict[str, str], unused: list[str]) -> SplitLists | None:
    """Fill `lists` from files; None if they cannot be used."""
    reasons, known = [], lists.images
    before, after = (part.replace("{{", "{").replace("}}", "}") for part in lists.pattern.split("{split}"))
    for split in [split for split in ("train", "val", "test") if split in paths]:
        path = paths[split]
        try:
            names = read_lines(root / path, "surrogateescape")
        except DataError as error:
            reasons.append(error.message.rstrip("."))
            continue
        keys = np.array([lists.key(line) for line in names], np.int64)
        listed = np.unique(keys)
        hits = int(np.isin(listed, known.keys).sum())
        if not len(listed) or 2 * hits < len(listed):
            what = f"{hits} of its {len(listed)} lines name an image; the first is {names[0]!r}" if names else "empty"
            reasons.append(f"{path} ({what})")
            continue
        lists.splits[split] = path[len(before) : len(path) - len(after)]
        lists.keys.append(listed)
        wrong = np.flatnonzero(~np.isin(keys, known.keys))[:MAX_UNKNOWN]
        lists.unknown += [f"{path}: {names[index]}" for index in wrong.tolist()]
        lists.other_masks += [f"{path}: {line}" for line in names if lists.names_other_mask(line)]
    usable = "train" in lists.splits
    if not usable:
        reasons += [f"{paths[split]} (there is no list for train)" for split in lists.splits]
    unused += reasons
    return lists if usable else None


def _listed_key(line: str, known: KnownFiles) -> int:
    """The key of the file that a line of a split list names, or of the line itself if no file has that name."""
    for name in listed_names(line):
        if (place := _position(known.paths, hash(name))) is not None:
            return int(known.path_keys[place])
        for candidate in (name, known.affix.shared_name(name) if known.affix.fits(name) else name):
            if _position(known.keys, name_key(candidate)) is not None:
                return name_key(candidate)
    return name_key(line)


def _position(values: np.ndarray, value: int) -> int | None:
    """The index of a value in a sorted array; None if it is not there."""
    index = int(np.searchsorted(values, value))
    return index if index < len(values) and values[index] == value else None
