"""The layout of a folder: its patterns and splits, its pairs, and the images and masks that are alone."""

from array import array
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fastfcn.checking.folder_names import braced, canonical_split
from fastfcn.checking.folders import Contents, Place, contents
from fastfcn.checking.lists import LISTED, SplitLists, read_lists
from fastfcn.checking.matching import Keys, Match, Rule, best_match, core, keys, shared_folders
from fastfcn.checking.paths import stem_and_suffix
from fastfcn.errors import DataError

WHOLE = "all"  # the split of a folder without splits


@dataclass(frozen=True)
class Layout:
    """Where the files lie, in the patterns of a data set's description (data/description.py).

    `splits` says what `{split}` stands for; a folder without splits has the one split {"all": ""}, and no `{split}` in
    its patterns. `lists` is not empty where text files name the examples of each split. `name` is "voc", "cityscapes",
    "ade20k" or "camvid" where the files lie as those do, else "folders" or "one folder"; `catalog` is the same where
    the numbers in the masks are also those of that data set, else empty.
    """

    name: str
    folders: tuple[str, ...]
    images: tuple[str, ...]
    labels: tuple[str, ...]
    lists: tuple[str, ...]
    splits: dict[str, str]
    catalog: str = ""


def numbers() -> array:
    """A list of numbers of files, four bytes each."""
    return array("I")


@dataclass
class Found:
    """Everything about where the files are, compact: files are numbers into `contents.files`.

    `images`, `masks` and `splits` go together, pair by pair. `same_name` are files that claim a name which another
    has, `unlisted` images that no list names (they need no mask), `in_two_lists` those that several name.
    """

    contents: Contents
    match: Match
    layout: Layout
    lists: SplitLists | None
    images: array = field(default_factory=numbers)
    masks: array = field(default_factory=numbers)
    splits: bytearray = field(default_factory=bytearray)
    images_alone: array = field(default_factory=numbers)
    alone_splits: bytearray = field(default_factory=bytearray)
    masks_alone: array = field(default_factory=numbers)
    same_name: array = field(default_factory=numbers)
    in_two_lists: array = field(default_factory=numbers)
    unlisted: int = 0

    def __len__(self) -> int:
        return len(self.images)

    def name(self, number: int) -> str:
        """What the placeholders of an image's path stand for, joined by slashes."""
        files, rule = self.contents.files, self.match.images
        place = place_of(self.contents, rule, number)
        stem = stem_and_suffix(files.name(number))[0]
        return "/".join((*shared_folders(rule, place), core(rule, stem) or stem))


def place_of(found: Contents, rule: Rule, number: int) -> Place:
    """The folder that a file lies in."""
    places = rule.side.places  # in the order of their numbers, as the walk found them
    starts = [found.files.of_folder(place.number).start for place in places]
    return places[bisect_right(starts, number) - 1]


def find_layout(root: Path) -> Found:
    """Where images and masks lie below `root`; raises DataError where there are none that belong together."""
    if not root.is_dir():
        raise DataError(f"The folder {root} does not exist.", "Give the folder that holds the images and masks.")
    found = contents(root)
    match = best_match(found)
    if match is None:
        raise DataError(*_nothing(root, found))
    images, masks = keys(found, match.images), keys(found, match.masks)
    split_by_folder = any(place.split for place in match.images.side.places)
    lists = None if split_by_folder or match.images.folders else read_lists(root, found.texts, images.values)
    result = Found(found, match, _layout(found, match, lists), lists)
    _join(result, images, masks)
    return result


def _join(found: Found, images: Keys, masks: Keys) -> None:
    """Sort the files into pairs and those that are alone."""
    splits = _split_numbers(found, images)
    at, paired = _places(images.values, masks.values)
    repeated = np.zeros(len(paired), bool)
    repeated[1:] = images.values[1:] == images.values[:-1]
    if found.lists:
        found.in_two_lists.extend(sorted(images.files[found.lists.in_two(images.values)].tolist()))
    for index in np.argsort(images.files, kind="stable"):
        number, split = int(images.files[index]), int(splits[index])
        if repeated[index]:
            found.same_name.append(number)
        elif split == LISTED:
            found.unlisted += 1
        elif paired[index]:
            found.images.append(number)
            found.masks.append(int(masks.files[at[index]]))
            found.splits.append(split)
        else:
            found.images_alone.append(number)
            found.alone_splits.append(split)
    _lonely_masks(found, images, masks)


def _places(values: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each of `values` stands in `among`, which ascends, and whether it is there."""
    places = np.searchsorted(among, values).astype(np.uint32)
    np.minimum(places, len(among) - 1, out=places)
    return places, among[places] == values


def _lonely_masks(found: Found, images: Keys, masks: Keys) -> None:
    alone = ~_places(masks.values, images.values)[1]
    repeated = np.zeros(len(alone), bool)
    repeated[1:] = masks.values[1:] == masks.values[:-1]
    found.masks_alone.extend(sorted(masks.files[alone].tolist()))
    found.same_name.extend(sorted(masks.files[repeated & ~alone].tolist()))


def _split_numbers(found: Found, images: Keys) -> np.ndarray:
    """The number of each image's split, LISTED where lists exist and none names it."""
    if found.lists:
        return found.lists.numbers(images.values)
    numbers = {value: number for number, value in enumerate(found.layout.splits.values())}
    by_file = np.zeros(len(found.contents.files), np.uint8)
    for place in found.match.images.side.places:
        files = found.contents.files.of_folder(place.number)
        by_file[files.start : files.stop] = numbers.get(place.split, 0)
    return by_file[images.files]


def _layout(found: Contents, match: Match, lists: SplitLists | None) -> Layout:
    images, labels = (_patterns(found, rule) for rule in (match.images, match.masks))
    written = dict.fromkeys(place.split for place in match.images.side.places if place.split)
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
        splits=splits or {WHOLE: ""},
    )


def _layout_name(match: Match, images: tuple[str, ...], labels: tuple[str, ...]) -> str:
    if match.images.side.places == match.masks.side.places:
        return "one folder"
    both = f" {images[0]} {labels[0]}"
    known = {
        "voc": ("JPEGImages/", "SegmentationClass"),
        "cityscapes": ("leftImg8bit/", "_gtFine_labelIds."),
        "ade20k": ("images/{split}/", "annotations/{split}/"),
        "camvid": (" {split}/", " {split}annot/"),
    }
    return next((name for name, marks in known.items() if all(mark in both for mark in marks)), "folders")


def _patterns(found: Contents, rule: Rule) -> tuple[str, ...]:
    """The patterns of a rule's files, the most frequent first."""
    counts: Counter[str] = Counter()
    for place in rule.side.places:
        folder = _folder_pattern(rule, place)
        for index in found.files.of_folder(place.number):
            stem, suffix = stem_and_suffix(found.files.name(index))
            if rule.side.holds(stem, suffix) and core(rule, stem) is not None:
                affix = rule.affix if rule.affix.fits(stem) else None
                before, after = (braced(part) for part in affix) if affix else ("", "")
                counts[f"{folder}{before}{{name}}{after}{suffix}"] += 1
    return tuple(pattern for pattern, _ in counts.most_common())


def _folder_pattern(rule: Rule, place: Place) -> str:
    """The pattern of a folder's path, with a slash at its end."""
    literal = len(place.plain) - rule.folders
    parts, plain = [], 0
    for part in place.parts:
        parts.append(f"{{folder{plain - literal + 1}}}" if part.plain and plain >= literal else part.pattern)
        plain += part.plain
    return "".join(f"{part}/" for part in parts)


def _nothing(root: Path, found: Contents) -> tuple[str, str]:
    """What to say where no image has a mask."""
    if not len(found.files):
        others = ", ".join(f"{count} {suffix}" for suffix, count in found.others.most_common(3))
        seen = f" (but {others} files)" if others else ""
        return f"There are no images in {root}{seen}.", "Give the folder that holds the images and their masks."
    folders = ", ".join(each or "." for each in found.files.folders[:6])
    message = f"No two files in {root} look like an image and its mask. Images lie in: {folders}."
    if found.others:
        kinds = " and ".join(sorted(found.others))
        return message, f"Labels in {kinds} files have to be drawn into PNG masks first, one for each image."
    advice = 'Name the folders "images" and "masks" and give an image and its mask the same name.'
    return message, advice
