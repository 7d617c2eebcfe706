"""Find out which files are images and which are masks, and how their names match."""

from collections import Counter
from collections.abc import Iterable, Iterator
from os.path import commonprefix
from typing import NamedTuple

import numpy as np

from fastfcn.checking.files import Folder, FolderContents, stem_and_suffix
from fastfcn.checking.folder_names import NO_AFFIX, Affix, stem_affix

# Other renderings of the same masks, used only if there is nothing better.
RENDERINGS = ("color", "colour", "instance", "trainids", "rgb", "visual", "object", "aug")
SAMPLED_NAMES = 300  # file names examined to find prefixes and suffixes
MAX_NAME_DEPTH = 3  # maximum number of folders that are part of an example's name


class FileGroup(NamedTuple):
    """Candidates for the images or the masks: the files in `folders` of the same shape.

    If one folder contains both, only files with a `suffix` or whose names suggest a `role` ("" = all).
    """

    folders: tuple[Folder, ...]
    suffix: str = ""
    role: str = ""

    def holds(self, stem: str, suffix: str) -> bool:
        if self.suffix:
            return suffix.lower() == self.suffix
        return not self.role or (stem_affix(stem)[1] == "mask") == (self.role == "mask")


class Rule(NamedTuple):
    """How the files of a group are named: the affix around the shared name, and how many of the innermost plain
    folders (such as city names) are part of the name."""

    group: FileGroup
    affix: Affix
    name_depth: int


class Match(NamedTuple):
    """The rules of images and masks, and the number of pairs they form."""

    images: Rule
    masks: Rule
    pairs: int


class Keys(NamedTuple):
    """A 64-bit hash of the split and name of each file, ascending, and the numbers of the files."""

    values: np.ndarray
    files: np.ndarray


def best_match(contents: FolderContents) -> Match | None:
    """The images and masks that form the most pairs, or None if there are none."""
    matches = (match for images, masks in _candidates(contents) for match in _matches(contents, images, masks))
    return max((match for match in matches if match.pairs), key=_rank, default=None)


def keys(contents: FolderContents, rule: Rule) -> Keys:
    """The keys of the files that follow a rule, sorted, so that images and masks can be joined."""
    rows = np.fromiter(_keys(contents, rule), dtype=[("key", np.int64), ("file", np.uint32)])
    rows = rows[np.argsort(rows["key"], kind="stable")]
    return Keys(rows["key"].copy(), rows["file"].copy())


def shared_name(rule: Rule, stem: str) -> str | None:
    """The shared name in a file name, or None for another rendering (NAME_color next to NAME_labelIds)."""
    if rule.affix.fits(stem):
        return rule.affix.shared_name(stem)
    return stem if stem_affix(stem)[0] == NO_AFFIX or rule.affix == NO_AFFIX else None


def shared_folders(rule: Rule, folder: Folder) -> tuple[str, ...]:
    """The plain parts of a folder's path that are part of the names of its files."""
    return folder.plain[len(folder.plain) - rule.name_depth :]


def _keys(contents: FolderContents, rule: Rule) -> Iterator[tuple[int, int]]:
    for folder in rule.group.folders:
        shared = (folder.split, *shared_folders(rule, folder))
        for index in contents.files.of_folder(folder.number):
            stem, suffix = stem_and_suffix(contents.files.name(index))
            if rule.group.holds(stem, suffix) and (name := shared_name(rule, stem)) is not None:
                yield hash((shared, name)), index


def _rank(match: Match) -> tuple:
    """Sort key: more pairs first; then fewer patterns, plain names, and masks that are not a rendering of others."""
    text = "/".join("/".join(folder.shape) for folder in match.masks.group.folders[:1]) + match.masks.affix.after
    rendering = any(word in text.lower() for word in RENDERINGS)
    literal = sum(len({_literal_folders(rule, folder) for folder in rule.group.folders}) for rule in match[:2])
    affixes = sum(rule.affix != NO_AFFIX for rule in match[:2])
    return (match.pairs, not rendering, -literal, -affixes, -match.images.name_depth)


def _literal_folders(rule: Rule, folder: Folder) -> tuple[str, ...]:
    """The plain parts of a folder's path that are spelled out in the pattern."""
    return folder.plain[: len(folder.plain) - rule.name_depth]


def _candidates(contents: FolderContents) -> Iterator[tuple[FileGroup, FileGroup]]:
    """Every way to choose files as images and others as masks."""
    shapes: dict[tuple[tuple[str, ...], str], list[Folder]] = {}
    for folder in contents.folders:
        shapes.setdefault((folder.shape, folder.role), []).append(folder)
    groups = {key: tuple(folders) for key, folders in shapes.items()}
    masks = [FileGroup(folders) for (_, role), folders in groups.items() if role == "mask"]
    images = [FileGroup(folders) for (_, role), folders in groups.items() if role == "image"]
    unnamed = [FileGroup(folders) for (_, role), folders in groups.items() if not role]
    for mask in masks:
        yield from ((image, mask) for image in images or unnamed)
    for group in (*unnamed, *images, *masks):
        yield group._replace(role="image"), group._replace(role="mask")
        yield from _by_suffix(contents, group)


def _by_suffix(contents: FolderContents, group: FileGroup) -> Iterator[tuple[FileGroup, FileGroup]]:
    """NAME.jpg and NAME.png in one folder: the files with lossy compression are the images."""
    suffixes = Counter(stem_and_suffix(name)[1].lower() for name in _names(contents, group.folders))
    lossy = [suffix for suffix in suffixes if suffix in (".jpg", ".jpeg", ".webp")]
    exact = [suffix for suffix in suffixes if suffix in (".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm")]
    for image in lossy:
        yield from ((group._replace(suffix=image), group._replace(suffix=mask)) for mask in exact)


def _matches(contents: FolderContents, images: FileGroup, masks: FileGroup) -> Iterator[Match]:
    """Every plausible pair of rules for two groups; general affixes only if the known ones form no pairs."""
    max_depth = min(MAX_NAME_DEPTH, max((len(folder.plain) for folder in images.folders), default=0))
    best = 0
    for exhaustive in (False, True):
        image_affixes, mask_affixes = (_candidate_affixes(contents, group, exhaustive) for group in (images, masks))
        for depth in range(max_depth + 1):
            image_keys = [(affix, keys(contents, Rule(images, affix, depth))) for affix in image_affixes]
            for mask_affix in mask_affixes:
                mask_rule = Rule(masks, mask_affix, depth)
                mask_values = np.unique(keys(contents, mask_rule).values)
                for affix, (values, _) in image_keys:
                    pairs = int(np.isin(np.unique(values), mask_values, assume_unique=True).sum())
                    best = max(best, pairs)
                    yield Match(Rule(images, affix, depth), mask_rule, pairs)
        if best:
            return


def _candidate_affixes(contents: FolderContents, group: FileGroup, exhaustive: bool) -> list[Affix]:
    """Possible affixes of a group: none, known words, and, if `exhaustive`, whatever all names share."""
    stems = list(_stems(contents, group, SAMPLED_NAMES))
    counts = Counter(stem_affix(stem)[0] for stem in stems)
    known = [affix for affix, count in counts.most_common(6) if count * 50 >= len(stems)]
    if exhaustive and stems:
        known.append(_common(stems))
    return list(dict.fromkeys([NO_AFFIX, *known]))


def _common(stems: list[str]) -> Affix:
    """The longest common prefix and suffix of all names, cut at word boundaries."""
    before = commonprefix(stems)  # noqa: RUF071 - of letters, not of folders
    after = commonprefix([stem[::-1] for stem in stems])[::-1]  # noqa: RUF071
    before = before.rstrip("0123456789")
    before = before[: max((before.rfind(mark) for mark in "_-. "), default=-1) + 1] or before
    marks = [index for mark in "_-. " if (index := after.find(mark)) >= 0]
    return Affix(before, after[min(marks) :] if marks else after.lstrip("0123456789"))


def _names(contents: FolderContents, folders: Iterable[Folder]) -> Iterator[str]:
    return (contents.files.name(index) for folder in folders for index in contents.files.of_folder(folder.number))


def _stems(contents: FolderContents, group: FileGroup, limit: int) -> Iterator[str]:
    for name in _names(contents, group.folders):
        stem, suffix = stem_and_suffix(name)
        if limit and group.holds(stem, suffix):
            limit -= 1
            yield stem
