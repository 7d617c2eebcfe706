"""The layout of a folder: path patterns, splits, image-mask pairs, and files without a counterpart."""

import os
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fastfcn.checking.files import Folder, FolderContents, read_contents, stem_and_suffix
from fastfcn.checking.folder_names import SPLITS, braced, canonical_split
from fastfcn.checking.matching import Keys, Match, Rule, best_match, keys, shared_folders, shared_name
from fastfcn.errors import DataError

UNLISTED = 255  # split number of images that no list names
MAX_UNKNOWN = 1000  # names without an image that are kept per list


@dataclass
class SplitLists:
    """Text files with the names of each split, such as Pascal VOC's ImageSets/Segmentation/train.txt.

    `pattern` contains {split}; `keys` are the sorted keys of the names in each split's list; `unknown` are names that
    no image has.
    """

    pattern: str
    splits: dict[str, str]
    keys: list[np.ndarray]
    unknown: list[str] = field(default_factory=list)  # "LIST: NAME"

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


def read_lists(root: Path, texts: list[str], image_keys: np.ndarray) -> SplitLists | None:
    """Find split lists among the `texts`: files for train and val whose lines are names of images."""
    folders: dict[str, dict[str, str]] = {}
    for text in texts:
        folder, name = os.path.split(text)
        stem = name.removesuffix(".txt")
        if stem.lower() in SPLITS:
            folders.setdefault(folder, {})[canonical_split(stem)] = stem
    for folder, splits in sorted(folders.items()):
        lists = _read_folder_lists(root, folder, splits, image_keys)
        if lists:
            return lists
    return None


def _read_folder_lists(root: Path, folder: str, splits: dict[str, str], image_keys: np.ndarray) -> SplitLists | None:
    order = [split for split in ("train", "val", "test") if split in splits]
    pattern = f"{folder}/{{split}}.txt" if folder else "{split}.txt"
    known = np.sort(image_keys)
    lists = SplitLists(pattern, {}, [])
    for split in order:
        path = pattern.format(split=splits[split])
        listed = np.unique(np.frombuffer(array("q", map(name_key, lines(root / path))), np.int64))
        if 2 * np.isin(listed, known).sum() < len(listed) or not len(listed):
            continue  # not a list of these images
        lists.splits[split] = splits[split]
        lists.keys.append(listed)
        missing = {int(key) for key in listed[~np.isin(listed, known)][:MAX_UNKNOWN]}
        lists.unknown += [f"{path}: {name}" for name in lines(root / path) if missing and name_key(name) in missing]
    return lists if "train" in lists.splits else None


def lines(path: Path) -> Iterator[str]:
    """The non-empty lines of a text file."""
    with path.open(encoding="utf-8", errors="surrogateescape") as text:
        yield from (line.strip() for line in text if line.strip())


ALL = "all"  # name of the only split of a folder without splits


@dataclass(frozen=True)
class Layout:
    """Where the files are, as patterns of a dataset description (see fastfcn.data.description).

    `splits` maps split names to the text for `{split}`; a folder without splits has the single split {"all": ""} and no
    `{split}` in its patterns. `lists` is not empty if text files list the examples of each split. `name` is "voc",
    "cityscapes", "ade20k" or "camvid" for the layouts of these datasets, else "folders" or "one folder"; `catalog` is
    the same name if the ids in the masks are also those of that dataset, else empty.
    """

    name: str
    folders: tuple[str, ...]
    images: tuple[str, ...]
    labels: tuple[str, ...]
    lists: tuple[str, ...]
    splits: dict[str, str]
    catalog: str = ""


def _file_numbers() -> array:
    """An empty array of file numbers, four bytes each."""
    return array("I")


@dataclass
class DatasetFiles:
    """The files of a dataset; all arrays contain file numbers of `contents.files`.

    `images`, `masks` and `splits` have one entry per pair. `same_name` are files whose name another file already has,
    `unlisted` counts images that no split list names, `in_two_lists` are images that several lists name.
    """

    contents: FolderContents
    match: Match
    layout: Layout
    lists: SplitLists | None
    images: array = field(default_factory=_file_numbers)
    masks: array = field(default_factory=_file_numbers)
    splits: bytearray = field(default_factory=bytearray)
    images_alone: array = field(default_factory=_file_numbers)
    alone_splits: bytearray = field(default_factory=bytearray)
    masks_alone: array = field(default_factory=_file_numbers)
    same_name: array = field(default_factory=_file_numbers)
    in_two_lists: array = field(default_factory=_file_numbers)
    unlisted: int = 0

    def __len__(self) -> int:
        return len(self.images)

    def name(self, number: int) -> str:
        """The name of an image: the values of its path's placeholders, joined by slashes."""
        files, rule = self.contents.files, self.match.images
        folder = folder_of(self.contents, rule, number)
        stem = stem_and_suffix(files.name(number))[0]
        return "/".join((*shared_folders(rule, folder), shared_name(rule, stem) or stem))


def folder_of(contents: FolderContents, rule: Rule, number: int) -> Folder:
    """The folder that contains a file."""
    folders = rule.group.folders  # in ascending order of their numbers
    starts = [contents.files.of_folder(folder.number).start for folder in folders]
    return folders[bisect_right(starts, number) - 1]


def find_layout(root: Path) -> DatasetFiles:
    """Find images and masks below `root` and match them. Raises DataError if there are no image-mask pairs."""
    if not root.is_dir():
        raise DataError(f"The folder {root} does not exist.", "Give the folder that contains the images and masks.")
    contents = read_contents(root)
    match = best_match(contents)
    if match is None:
        raise DataError(*_no_pairs(root, contents))
    images, masks = keys(contents, match.images), keys(contents, match.masks)
    split_by_folder = any(folder.split for folder in match.images.group.folders)
    lists = None if split_by_folder or match.images.name_depth else read_lists(root, contents.texts, images.values)
    dataset = DatasetFiles(contents, match, _layout(contents, match, lists), lists)
    _join(dataset, images, masks)
    return dataset


def _join(dataset: DatasetFiles, images: Keys, masks: Keys) -> None:
    """Join images and masks by their keys into pairs, and note the files without a counterpart."""
    splits = _split_numbers(dataset, images)
    mask_index, paired = _lookup(images.values, masks.values)
    repeated = np.zeros(len(paired), bool)
    repeated[1:] = images.values[1:] == images.values[:-1]
    if dataset.lists:
        dataset.in_two_lists.extend(sorted(images.files[dataset.lists.in_two(images.values)].tolist()))
    for index in np.argsort(images.files, kind="stable"):
        number, split = int(images.files[index]), int(splits[index])
        if repeated[index]:
            dataset.same_name.append(number)
        elif split == UNLISTED:
            dataset.unlisted += 1
        elif paired[index]:
            dataset.images.append(number)
            dataset.masks.append(int(masks.files[mask_index[index]]))
            dataset.splits.append(split)
        else:
            dataset.images_alone.append(number)
            dataset.alone_splits.append(split)
    _masks_without_image(dataset, images, masks)


def _lookup(values: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The index of each of `values` in the sorted array `among`, and whether it is there."""
    indices = np.searchsorted(among, values).astype(np.uint32)
    np.minimum(indices, len(among) - 1, out=indices)
    return indices, among[indices] == values


def _masks_without_image(dataset: DatasetFiles, images: Keys, masks: Keys) -> None:
    alone = ~_lookup(masks.values, images.values)[1]
    repeated = np.zeros(len(alone), bool)
    repeated[1:] = masks.values[1:] == masks.values[:-1]
    dataset.masks_alone.extend(sorted(masks.files[alone].tolist()))
    dataset.same_name.extend(sorted(masks.files[repeated & ~alone].tolist()))


def _split_numbers(dataset: DatasetFiles, images: Keys) -> np.ndarray:
    """The split number of each image; UNLISTED if there are lists and none names it."""
    if dataset.lists:
        return dataset.lists.numbers(images.values)
    numbers = {value: number for number, value in enumerate(dataset.layout.splits.values())}
    by_file = np.zeros(len(dataset.contents.files), np.uint8)
    for folder in dataset.match.images.group.folders:
        files = dataset.contents.files.of_folder(folder.number)
        by_file[files.start : files.stop] = numbers.get(folder.split, 0)
    return by_file[images.files]


def _layout(contents: FolderContents, match: Match, lists: SplitLists | None) -> Layout:
    images, labels = (_patterns(contents, rule) for rule in (match.images, match.masks))
    written = dict.fromkeys(folder.split for folder in match.images.group.folders if folder.split)
    names = [canonical_split(value) for value in written]
    splits = {name if names.count(name) == 1 else value: value for name, value in zip(names, written, strict=True)}
    if lists:
        splits = lists.splits
    return Layout(
        name=_layout_name(match, images, labels),
        folders=(".",),
        images=images,
        labels=labels,
        lists=(lists.pattern,) if lists else (),
        splits=splits or {ALL: ""},
    )


def _layout_name(match: Match, images: tuple[str, ...], labels: tuple[str, ...]) -> str:
    if match.images.group.folders == match.masks.group.folders:
        return "one folder"
    both = f" {images[0]} {labels[0]}"
    known = {
        "voc": ("JPEGImages/", "SegmentationClass"),
        "cityscapes": ("leftImg8bit/", "_gtFine_labelIds."),
        "ade20k": ("images/{split}/", "annotations/{split}/"),
        "camvid": (" {split}/", " {split}annot/"),
    }
    return next((name for name, marks in known.items() if all(mark in both for mark in marks)), "folders")


def _patterns(contents: FolderContents, rule: Rule) -> tuple[str, ...]:
    """The path patterns of the files of a rule, most frequent first."""
    counts: Counter[str] = Counter()
    for folder in rule.group.folders:
        pattern = _folder_pattern(rule, folder)
        for index in contents.files.of_folder(folder.number):
            stem, suffix = stem_and_suffix(contents.files.name(index))
            if rule.group.holds(stem, suffix) and shared_name(rule, stem) is not None:
                affix = rule.affix if rule.affix.fits(stem) else None
                before, after = (braced(part) for part in affix) if affix else ("", "")
                counts[f"{pattern}{before}{{name}}{after}{suffix}"] += 1
    return tuple(pattern for pattern, _ in counts.most_common())


def _folder_pattern(rule: Rule, folder: Folder) -> str:
    """The pattern of a folder's path, with a trailing slash."""
    literal = len(folder.plain) - rule.name_depth
    parts, plain = [], 0
    for part in folder.parts:
        parts.append(f"{{folder{plain - literal + 1}}}" if part.plain and plain >= literal else part.pattern)
        plain += part.plain
    return "".join(f"{part}/" for part in parts)


def _no_pairs(root: Path, contents: FolderContents) -> tuple[str, str]:
    """Message and hint if no image has a mask."""
    if not len(contents.files):
        others = ", ".join(f"{count} {suffix}" for suffix, count in contents.others.most_common(3))
        found = f" (but {others} files)" if others else ""
        return f"There are no images in {root}{found}.", "Give the folder that contains the images and their masks."
    folders = ", ".join(path or "." for path in contents.files.folder_paths[:6])
    message = f"No two files in {root} look like an image and its mask. Images were found in: {folders}."
    if contents.others:
        kinds = " and ".join(sorted(contents.others))
        return message, f"Convert the labels in {kinds} files to PNG masks first, one per image."
    advice = 'Name the folders "images" and "masks", and give each image and its mask the same name.'
    return message, advice
