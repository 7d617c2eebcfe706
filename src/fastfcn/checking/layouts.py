"""The layout of a folder: path patterns, splits, image-mask pairs, and files without a counterpart."""

import os
import re
from array import array
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fastfcn.checking.files import Folder, FolderContents, read_contents, stem_and_suffix
from fastfcn.checking.folder_names import NO_AFFIX, SPLITS, Affix, braced, canonical_split
from fastfcn.checking.matching import Keys, Match, Rule, best_match, keys, shared_folders, shared_name
from fastfcn.data.layout import listed_names
from fastfcn.errors import DataError
from fastfcn.utils.text import read_lines

UNLISTED = 255  # split number of images that no list names
LIST_WORDS = frozenset(
    ["list", "lists", "id", "ids", "set", "split", "file", "files", "image", "images", "name", "names"]
)
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
    known: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # sorted keys of all images
    affix: Affix = NO_AFFIX

    def key(self, line: str) -> int:
        """The key of the image that a line of a list names, or of the line itself if no image has that name."""
        return _listed_key(line, self.known, self.affix)

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
    root: Path, texts: list[str], image_keys: np.ndarray, unused: list[str], affix: Affix = NO_AFFIX
) -> SplitLists | None:
    """Find split lists among the `texts`: files for train and val whose lines are names of images.

    Lists that are not used are added to `unused` with the reason.
    """
    chosen, known = None, np.sort(image_keys)
    # Pascal VOC comes with lists for other tasks; those for segmentation come first.
    for pattern, paths in sorted(list_files(texts).items(), key=lambda item: ("Segmentation" not in item[0], item[0])):
        if not chosen:
            chosen = _read_pattern(root, pattern, paths, known, unused, affix)
        elif not pattern.startswith("ImageSets/"):
            unused += [f"{path} ({chosen.pattern} is used)" for path in paths.values()]
    return chosen


def _read_pattern(
    root: Path, pattern: str, paths: dict[str, str], known: np.ndarray, unused: list[str], affix: Affix
) -> SplitLists | None:
    lists, reasons = SplitLists(pattern, {}, [], known=known, affix=affix), []
    before, after = (part.replace("{{", "{").replace("}}", "}") for part in pattern.split("{split}"))
    for split in [split for split in ("train", "val", "test") if split in paths]:
        path = paths[split]
        try:
            names = read_lines(root / path, "surrogateescape")
        except DataError as error:
            reasons.append(error.message.rstrip("."))
            continue
        keys = np.array([lists.key(line) for line in names], np.int64)
        listed = np.unique(keys)
        hits = int(np.isin(listed, known).sum())
        if not len(listed) or 2 * hits < len(listed):
            what = f"{hits} of its {len(listed)} lines name an image; the first is {names[0]!r}" if names else "empty"
            reasons.append(f"{path} ({what})")
            continue
        lists.splits[split] = path[len(before) : len(path) - len(after)]
        lists.keys.append(listed)
        wrong = np.flatnonzero(~np.isin(keys, known))[:MAX_UNKNOWN]
        lists.unknown += [f"{path}: {names[index]}" for index in wrong.tolist()]
    usable = "train" in lists.splits
    if not usable:
        reasons += [f"{paths[split]} (there is no list for train)" for split in lists.splits]
    unused += reasons
    return lists if usable else None


def _listed_key(line: str, known: np.ndarray, affix: Affix) -> int:
    """The key of the image that a line of a split list names, or of the line itself if no image has that name."""
    for name in listed_names(line):
        stem = name.rsplit("/", 1)[-1]
        for candidate in (name, stem, affix.shared_name(stem) if affix.fits(stem) else stem):
            key = name_key(candidate)
            index = np.searchsorted(known, key)
            if index < len(known) and known[index] == key:
                return key
    return name_key(line)


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
    unused_lists: list[str] = field(default_factory=list)  # "LIST (reason)"

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
    if not os.path.isdir(root):  # noqa: PTH112 - Path.is_dir raises PermissionError
        raise DataError(f"The folder {root} does not exist.", "Give the folder that contains the images and masks.")
    contents = read_contents(root)
    match = best_match(contents)
    if match is None:
        raise DataError(*_no_pairs(root, contents))
    images, masks = keys(contents, match.images), keys(contents, match.masks)
    split_by_folder = any(folder.split for folder in match.images.group.folders)
    unused: list[str] = []
    if split_by_folder or match.images.name_depth:
        reason = "the folders define the splits" if split_by_folder else "the images are in several folders"
        split_lists, lists = list_files(contents.texts), None
        unused = [f"{path} ({reason})" for paths in split_lists.values() for path in paths.values()]
    else:
        lists = read_lists(root, contents.texts, images.values, unused, match.images.affix)
    dataset = DatasetFiles(contents, match, _layout(contents, match, lists), lists, unused_lists=unused)
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
        note = f" (but {others} files)" if others else ""
        return f"There are no images in {root}{note}.", "Give the folder that contains the images and their masks."
    folders = ", ".join(path or "." for path in contents.files.folder_paths[:6])
    message = f"No two files in {root} look like an image and its mask. Images were found in: {folders}."
    if contents.others:
        kinds = " and ".join(sorted(contents.others))
        return message, f"Convert the labels in {kinds} files to PNG masks first, one per image."
    advice = 'Name the folders "images" and "masks", and give each image and its mask the same name.'
    return message, advice
