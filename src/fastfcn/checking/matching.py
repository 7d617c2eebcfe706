"""Which files are images, which are their masks, and by what rule of names they belong together."""

from collections import Counter
from collections.abc import Iterable, Iterator
from os.path import commonprefix
from typing import NamedTuple

import numpy as np

from fastfcn.checking.folder_names import BARE, Affix, stem_affix
from fastfcn.checking.folders import Contents, Place
from fastfcn.checking.paths import stem_and_suffix

# Renderings of the same masks, taken only where there is nothing better.
SECOND_CHOICE = ("color", "colour", "instance", "trainids", "rgb", "visual", "object", "aug")
LOOKED_AT = 300  # names from which the words around them are learnt
DEEPEST = 3  # folders that may be part of a name


class Side(NamedTuple):
    """Files that may be the images, or the masks: those in `places` of one shape; of one `suffix` or of one `role` by
    their own names where one folder holds both ("" = all)."""

    places: tuple[Place, ...]
    suffix: str = ""
    role: str = ""

    def holds(self, stem: str, suffix: str) -> bool:
        if self.suffix:
            return suffix.lower() == self.suffix
        return not self.role or (stem_affix(stem)[1] == "mask") == (self.role == "mask")


class Rule(NamedTuple):
    """How a side's files are named: what stands around the common name, and how many of the innermost plain parts of
    their folder (names of cities and the like) belong to it."""

    side: Side
    affix: Affix
    folders: int


class Match(NamedTuple):
    """The rules of images and masks, and how many pairs they make."""

    images: Rule
    masks: Rule
    pairs: int


class Keys(NamedTuple):
    """A number of 64 bits for the split and name of each file, ascending, and the files' own numbers."""

    values: np.ndarray
    files: np.ndarray


def best_match(found: Contents) -> Match | None:
    """The images and masks that make the most pairs, or None where there are none."""
    matches = (match for images, masks in _sides(found) for match in _matches(found, images, masks))
    return max((match for match in matches if match.pairs), key=_merit, default=None)


def keys(found: Contents, rule: Rule) -> Keys:
    """Who belongs to a rule, sorted so that equal keys of images and masks can be joined."""
    rows = np.fromiter(_keys(found, rule), dtype=[("key", np.int64), ("file", np.uint32)])
    rows = rows[np.argsort(rows["key"], kind="stable")]
    return Keys(rows["key"].copy(), rows["file"].copy())


def core(rule: Rule, stem: str) -> str | None:
    """The common name in a file's, or None where the file is another rendering (NAME_color beside NAME_labelIds)."""
    if rule.affix.fits(stem):
        return rule.affix.core(stem)
    return stem if stem_affix(stem)[0] == BARE or rule.affix == BARE else None


def shared_folders(rule: Rule, place: Place) -> tuple[str, ...]:
    """The parts of a place's path that belong to the names of its files."""
    return place.plain[len(place.plain) - rule.folders :]


def _keys(found: Contents, rule: Rule) -> Iterator[tuple[int, int]]:
    for place in rule.side.places:
        shared = (place.split, *shared_folders(rule, place))
        for index in found.files.of_folder(place.number):
            stem, suffix = stem_and_suffix(found.files.name(index))
            if rule.side.holds(stem, suffix) and (name := core(rule, stem)) is not None:
                yield hash((shared, name)), index


def _merit(match: Match) -> tuple:
    """More pairs first; then few patterns, plain names, and masks that are no rendering of others."""
    text = "/".join("/".join(place.shape) for place in match.masks.side.places[:1]) + match.masks.affix.after
    rendering = any(word in text.lower() for word in SECOND_CHOICE)
    literal = sum(len({_fixed(rule, place) for place in rule.side.places}) for rule in match[:2])
    affixes = sum(rule.affix != BARE for rule in match[:2])
    return (match.pairs, not rendering, -literal, -affixes, -match.images.folders)


def _fixed(rule: Rule, place: Place) -> tuple[str, ...]:
    """The plain parts of a place's path that a pattern has to spell out."""
    return place.plain[: len(place.plain) - rule.folders]


def _sides(found: Contents) -> Iterator[tuple[Side, Side]]:
    """Every way to take some files for the images and others for the masks."""
    shapes: dict[tuple[tuple[str, ...], str], list[Place]] = {}
    for place in found.places:
        shapes.setdefault((place.shape, place.role), []).append(place)
    groups = {key: tuple(places) for key, places in shapes.items()}
    masks = [Side(places) for (_, role), places in groups.items() if role == "mask"]
    images = [Side(places) for (_, role), places in groups.items() if role == "image"]
    unnamed = [Side(places) for (_, role), places in groups.items() if not role]
    for mask in masks:
        yield from ((image, mask) for image in images or unnamed)
    for side in (*unnamed, *images, *masks):
        yield side._replace(role="image"), side._replace(role="mask")
        yield from _by_suffix(found, side)


def _by_suffix(found: Contents, side: Side) -> Iterator[tuple[Side, Side]]:
    """NAME.jpg and NAME.png in one folder: what is compressed with loss is the image."""
    suffixes = Counter(stem_and_suffix(name)[1].lower() for name in _names(found, side.places))
    lossy = [suffix for suffix in suffixes if suffix in (".jpg", ".jpeg", ".webp")]
    exact = [suffix for suffix in suffixes if suffix in (".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm")]
    for image in lossy:
        yield from ((side._replace(suffix=image), side._replace(suffix=mask)) for mask in exact)


def _matches(found: Contents, images: Side, masks: Side) -> Iterator[Match]:
    """Every plausible pair of rules for two sides; the further ones only where the plain ones fail."""
    deepest = min(DEEPEST, max((len(place.plain) for place in images.places), default=0))
    best = 0
    for exhaustive in (False, True):
        image_affixes, mask_affixes = (_affixes(found, side, exhaustive) for side in (images, masks))
        for folders in range(deepest + 1):
            image_keys = [(affix, keys(found, Rule(images, affix, folders))) for affix in image_affixes]
            for mask_affix in mask_affixes:
                mask_rule = Rule(masks, mask_affix, folders)
                mask_values = np.unique(keys(found, mask_rule).values)
                for affix, (values, _) in image_keys:
                    pairs = int(np.isin(np.unique(values), mask_values, assume_unique=True).sum())
                    best = max(best, pairs)
                    yield Match(Rule(images, affix, folders), mask_rule, pairs)
        if best:
            return


def _affixes(found: Contents, side: Side, exhaustive: bool) -> list[Affix]:
    """What may stand around the names of a side: nothing, known words, and, exhaustively, whatever all have."""
    stems = list(_stems(found, side, LOOKED_AT))
    counts = Counter(stem_affix(stem)[0] for stem in stems)
    known = [affix for affix, count in counts.most_common(6) if count * 50 >= len(stems)]
    if exhaustive and stems:
        known.append(_common(stems))
    return list(dict.fromkeys([BARE, *known]))


def _common(stems: list[str]) -> Affix:
    """The longest beginning and end of all names, cut back to where a word ends."""
    before = commonprefix(stems)  # noqa: RUF071 - of letters, not of folders
    after = commonprefix([stem[::-1] for stem in stems])[::-1]  # noqa: RUF071
    before = before.rstrip("0123456789")
    before = before[: max((before.rfind(mark) for mark in "_-. "), default=-1) + 1] or before
    marks = [at for mark in "_-. " if (at := after.find(mark)) >= 0]
    return Affix(before, after[min(marks) :] if marks else after.lstrip("0123456789"))


def _names(found: Contents, places: Iterable[Place]) -> Iterator[str]:
    return (found.files.name(index) for place in places for index in found.files.of_folder(place.number))


def _stems(found: Contents, side: Side, limit: int) -> Iterator[str]:
    for name in _names(found, side.places):
        stem, suffix = stem_and_suffix(name)
        if limit and side.holds(stem, suffix):
            limit -= 1
            yield stem
