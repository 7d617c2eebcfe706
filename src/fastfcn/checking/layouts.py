"""The layout of a folder: path patterns, splits, image-mask pairs, and files without a counterpart."""

import os
from array import array
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastfcn.checking.files import Folder, FolderContents, read_contents, stem_and_suffix
from fastfcn.checking.folder_names import braced, canonical_split, folder_name
from fastfcn.checking.matching import (
    SPLIT,
    Choice,
    Keys,
    Match,
    Rule,
    Selection,
    choose_match,
    keys,
    shared_folders,
    shared_name,
)
from fastfcn.checking.split_lists import UNLISTED, KnownFiles, SplitLists, list_files, read_lists
from fastfcn.errors import DataError

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


class OtherFolders(NamedTuple):
    """Folders that could have been used instead: the patterns of their images and masks, and how many pairs they form.

    `folders`: the first folder of the images and of the masks; `same_images`: whether the images are the chosen ones.
    """

    images: str
    masks: str
    pairs: int
    folders: tuple[str, str]
    same_images: bool


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
    unused_lists: list[str] = field(default_factory=list)  # "LIST (reason)"
    others: list[OtherFolders] = field(default_factory=list)
    choice_reason: str = ""  # why `match` was chosen and not `others`

    def __len__(self) -> int:
        return len(self.images)

    def name(self, number: int) -> str:
        """The name of an image: the values of its path's placeholders, joined by slashes."""
        return full_name(self.contents, self.match.images, number)


def full_name(contents: FolderContents, rule: Rule, number: int) -> str:
    """The name of a file that follows a rule: the values of its path's placeholders, joined by slashes."""
    stem, folder = stem_and_suffix(contents.files.name(number))[0], folder_of(contents, rule, number)
    return "/".join((*shared_folders(rule, folder), shared_name(rule, folder, stem) or stem))


def folder_of(contents: FolderContents, rule: Rule, number: int) -> Folder:
    """The folder that contains a file."""
    folders = rule.group.folders  # in ascending order of their numbers
    starts = [contents.files.of_folder(folder.number).start for folder in folders]
    return folders[bisect_right(starts, number) - 1]


def find_layout(root: Path, images: str = "", masks: str = "") -> DatasetFiles:
    """Find images and masks below `root` and match them; `images` and `masks` name the folders to use.

    Raises DataError if there are no image-mask pairs, or no such folders.
    """
    if not os.path.isdir(root):  # noqa: PTH112 - Path.is_dir raises PermissionError
        raise DataError(f"The folder {root} does not exist.", "Give the folder that contains the images and masks.")
    contents = read_contents(root)
    selection = Selection(_selected(root, contents, "--images", images), _selected(root, contents, "--masks", masks))
    choice = choose_match(contents, selection)
    if choice is None:
        raise DataError(*_no_pairs(root, contents))
    match = choice.best
    image_keys, mask_keys = keys(contents, match.images), keys(contents, match.masks)
    unused: list[str] = []
    if any(folder.split for folder in match.images.group.folders):
        split_lists, lists = list_files(contents.texts), None
        described = (root / "dataset.toml").is_file()  # by `init`, with the lists that it wrote
        unused = [
            f"{path} (the folders define the splits)"
            for paths in split_lists.values()
            for path in paths.values()
            if not (described and path.startswith("splits/"))
        ]
    else:
        known = (_known_files(contents, match.images, image_keys), _known_files(contents, match.masks, mask_keys))
        lists = read_lists(root, contents.texts, *known, unused)
    dataset = DatasetFiles(contents, match, _layout(contents, match, lists), lists, unused_lists=unused)
    dataset.others, dataset.choice_reason = _others(contents, choice), choice.reason
    _join(dataset, image_keys, mask_keys)
    return dataset


def _selected(root: Path, contents: FolderContents, option: str, text: str) -> frozenset[int] | None:
    """The numbers of the folders that `text` names: a folder below `root`, with the same folder of other splits."""
    if not text:
        return None
    path = Path(text.replace("\\", "/"))
    if path.is_absolute() or (not (root / path).exists() and path.resolve().is_relative_to(root.resolve())):
        path = Path(os.path.relpath(path.resolve(), root.resolve()))
    parts = [folder_name(part).pattern for part in path.parts]
    selected = frozenset(
        folder.number
        for folder in contents.folders
        if any(
            [part.pattern for part in folder.parts[start : start + len(parts)]] == parts
            for start in range(len(folder.parts) + 1)
        )
        and (parts or not folder.parts)
    )
    if not selected:
        folders = ", ".join(path or "." for path in contents.files.folder_paths[:12])
        raise DataError(f"{option}: {root} has no folder {text} with images in it.", f"Folders with images: {folders}.")
    return selected


def _others(contents: FolderContents, choice: Choice) -> list[OtherFolders]:
    """The folders that were not chosen, as patterns."""
    described = []
    for match in choice.rivals:
        folders = [contents.files.folder_paths[rule.group.folders[0].number] or "." for rule in match[:2]]
        images, masks = (_patterns(contents, rule)[0] for rule in match[:2])
        same_images = match.images.group.folders == choice.best.images.group.folders
        described.append(OtherFolders(images, masks, match.pairs, (folders[0], folders[1]), same_images))
    return described


def _known_files(contents: FolderContents, rule: Rule, file_keys: Keys) -> KnownFiles:
    """What split lists may name, from the keys of all images or masks."""
    if not rule.name_depth:
        return KnownFiles(np.sort(file_keys.values), rule.affix)
    rows = []
    for key, number in zip(file_keys.values.tolist(), file_keys.files.tolist(), strict=True):
        path = contents.files.path(number)
        rows += [(hash(text), key) for text in (path, path.rpartition(".")[0], full_name(contents, rule, number))]
    table = np.array(sorted(set(rows)), np.int64)
    return KnownFiles(np.sort(file_keys.values), rule.affix, table[:, 0], table[:, 1])


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
            if rule.group.holds(stem, suffix) and shared_name(rule, folder, stem) is not None:
                fits = rule.affix_in(folder).fits(stem)
                before, after = (braced(part).replace(SPLIT, "{split}") for part in rule.affix) if fits else ("", "")
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
        note = f" (but {others} files)" if others else ""
        return f"There are no images in {root}{note}.", "Give the folder that contains the images and their masks."
    folders = ", ".join(path or "." for path in contents.files.folder_paths[:6])
    message = f"No two files in {root} look like an image and its mask. Images were found in: {folders}."
    if contents.others:
        kinds = " and ".join(sorted(contents.others))
        return message, f"Convert the labels in {kinds} files to PNG masks first, one per image."
    advice = 'Name the folders "images" and "masks", and give each image and its mask the same name.'
    return message, advice
