"""Find out which files are images and which are masks, and how their names match."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from os.path import commonprefix
from typing import NamedTuple

import numpy as np

from fastfcn.checking.files import Folder, FolderContents, stem_and_suffix
from fastfcn.checking.folder_names import NO_AFFIX, Affix, is_by_annotator, stem_affix

# Other renderings of the same masks, used only if there is nothing better.
RENDERINGS = ("color", "colour", "instance", "trainids", "rgb", "visual", "object", "aug")
RIVAL = 0.1  # fraction of the pairs of the chosen folders from which other folders are mentioned
ANNOTATED = 1 / 3  # fraction of the pairs of the best folders from which those of an annotator are preferred
SPLIT = "\0"  # in an affix: the split of the folder, as in training/images/21_training.tif
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
    folders (such as city names) are part of the name. SPLIT in the affix stands for the split of the folder."""

    group: FileGroup
    affix: Affix
    name_depth: int

    def affix_in(self, folder: Folder) -> Affix:
        """The affix of the files in a folder."""
        before, after = self.affix
        return Affix(before.replace(SPLIT, folder.split), after.replace(SPLIT, folder.split))


class Match(NamedTuple):
    """The rules of images and masks, and the number of pairs they form."""

    images: Rule
    masks: Rule
    pairs: int


class Keys(NamedTuple):
    """A 64-bit hash of the split and name of each file, ascending, and the numbers of the files."""

    values: np.ndarray
    files: np.ndarray


class Choice(NamedTuple):
    """The folders to use: `best`, the `reason` for it, and the `rivals`: other folders that would form pairs, too."""

    best: Match
    rivals: tuple[Match, ...]
    reason: str


class Selection(NamedTuple):
    """The folders of the images and of the masks that the user selected; None for any."""

    images: frozenset[int] | None = None
    masks: frozenset[int] | None = None


def choose_match(contents: FolderContents, selection: Selection) -> Choice | None:
    """Choose the images and masks that form the most pairs; None if there are no pairs.

    Masks in a folder named after an annotator (1st_manual) are preferred to those of a folder "mask" next to it, which
    often are the camera's field of view.
    """
    best: dict[tuple, Match] = {}  # by the folders
    candidates = _candidates(contents, selection)
    for match in (match for images, masks in candidates for match in _matches(contents, images, masks)):
        if match.pairs and (_folders(match) not in best or _rank(match) > _rank(best[_folders(match)])):
            best[_folders(match)] = match
    if not best:
        return None
    ranked = sorted(best.values(), key=_rank, reverse=True)
    chosen = ranked[0]
    for match in ranked:
        enough = match.pairs >= ANNOTATED * chosen.pairs
        if enough and _by_annotator(match) and not _by_annotator(chosen) and match.images.group == chosen.images.group:
            chosen = match
    rivals = tuple(m for m in ranked if m is not chosen and m.pairs >= RIVAL * chosen.pairs and _differs(m, chosen))
    return Choice(chosen, rivals, _reason(chosen, rivals))


def _folders(match: Match) -> tuple:
    return tuple(tuple(folder.number for folder in rule.group.folders) for rule in (match.images, match.masks))


def _differs(match: Match, chosen: Match) -> bool:
    """Whether a match is about other folders, and not about pairs inside one of the chosen folders."""
    images, masks = _folders(match)
    return images != masks or images not in _folders(chosen)


def _by_annotator(match: Match) -> bool:
    return any(is_by_annotator(part.pattern) for folder in match.masks.group.folders for part in folder.parts)


def _reason(chosen: Match, rivals: tuple[Match, ...]) -> str:
    """Why `chosen` is used and not the next best."""
    if not rivals:
        return ""
    other = rivals[0]
    if _by_annotator(chosen) and not _by_annotator(other):
        return "its name suggests an annotator, and a folder of masks next to it is often the field of view"
    if chosen.pairs > other.pairs:
        return "it has the most pairs"
    return "its names are the simplest" if _rank(chosen) > _rank(other) else "it comes first by name"


def keys(contents: FolderContents, rule: Rule) -> Keys:
    """The keys of the files that follow a rule, sorted, so that images and masks can be joined."""
    rows = np.fromiter(_keys(contents, rule), dtype=[("key", np.int64), ("file", np.uint32)])
    rows = rows[np.argsort(rows["key"], kind="stable")]
    return Keys(rows["key"].copy(), rows["file"].copy())


def shared_name(rule: Rule, folder: Folder, stem: str) -> str | None:
    """The shared name in a file name, or None for another rendering (NAME_color next to NAME_labelIds)."""
    affix = rule.affix_in(folder)
    if affix.fits(stem):
        return affix.shared_name(stem)
    return stem if stem_affix(stem)[0] == NO_AFFIX or rule.affix == NO_AFFIX else None


def shared_folders(rule: Rule, folder: Folder) -> tuple[str, ...]:
    """The plain parts of a folder's path that are part of the names of its files."""
    return folder.plain[len(folder.plain) - rule.name_depth :]


def _keys(contents: FolderContents, rule: Rule) -> Iterator[tuple[int, int]]:
    for folder in rule.group.folders:
        shared = (folder.split, *shared_folders(rule, folder))
        for index in contents.files.of_folder(folder.number):
            stem, suffix = stem_and_suffix(contents.files.name(index))
            if rule.group.holds(stem, suffix) and (name := shared_name(rule, folder, stem)) is not None:
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


def _candidates(contents: FolderContents, selection: Selection) -> Iterator[tuple[FileGroup, FileGroup]]:
    """Every way to choose files as images and others as masks."""
    if selection != Selection():
        yield from _selected_candidates(contents, selection)
        return
    masks, images, unnamed = (_groups(contents.folders, role) for role in ("mask", "image", ""))
    for mask in masks:
        yield from ((image, mask) for image in images or unnamed)
    for group in (*unnamed, *images, *masks):
        yield from _in_one_folder(contents, group)


def _selected_candidates(contents: FolderContents, selection: Selection) -> Iterator[tuple[FileGroup, FileGroup]]:
    """Like `_candidates`, if the user selected the folders of the images, of the masks or of both."""
    folders = contents.folders
    masks, images = (
        [folder for folder in folders if selected is not None and folder.number in selected]
        for selected in (selection.masks, selection.images)
    )
    if selection.masks is None:
        others = [folder for folder in folders if folder not in images]
        masks = [folder for folder in others if folder.role == "mask"] or others
    if selection.images is None:
        others = [folder for folder in folders if folder not in masks]
        images = [folder for folder in others if folder.role == "image"] or others
    for mask in _groups(masks):
        yield from ((image, mask) for image in _groups(images) if image != mask)
    either = [folder for folder in folders if folder.number in (selection.masks or set()) | (selection.images or set())]
    for group in _groups(either):
        yield from _in_one_folder(contents, group)


def _groups(folders: Iterable[Folder], role: str | None = None) -> list[FileGroup]:
    """Folders of the same shape, with a role or with any."""
    shapes: dict[tuple[tuple[str, ...], str], list[Folder]] = {}
    for folder in folders:
        if role is None or folder.role == role:
            shapes.setdefault((folder.shape, folder.role), []).append(folder)
    return [FileGroup(tuple(group)) for group in shapes.values()]


def _in_one_folder(contents: FolderContents, group: FileGroup) -> Iterator[tuple[FileGroup, FileGroup]]:
    """Images and masks in the same folder, distinguished by a word in their names or by their suffix."""
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
        known += [_common(stems), _common(list(_stems(contents, group, SAMPLED_NAMES, mark_split=True)))]
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


def _stems(contents: FolderContents, group: FileGroup, limit: int, mark_split: bool = False) -> Iterator[str]:
    """File names without suffix, at most `limit`, from all folders; `mark_split`: with SPLIT for the folder's split."""
    for folder in group.folders:
        word = re.compile(rf"(?<![^_\-. ]){re.escape(folder.split)}(?![^_\-. ])") if folder.split else None
        left = math.ceil(limit / len(group.folders))
        for index in contents.files.of_folder(folder.number):
            stem, suffix = stem_and_suffix(contents.files.name(index))
            if left and group.holds(stem, suffix):
                left -= 1
                yield word.sub(SPLIT, stem) if word and mark_split else stem
