"""Problems of the whole folder: halves of pairs, images in two splits, classes that a split lacks, rare classes."""

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastfcn.checking.color_problems import slips
from fastfcn.checking.duplicates import alike, same_digest
from fastfcn.checking.file_problems import ERROR, FIXED, WARNING, pair_files
from fastfcn.checking.flags import Sign
from fastfcn.checking.layouts import Found
from fastfcn.checking.paths import Paths
from fastfcn.checking.problem import Problem
from fastfcn.checking.statistics import Tally
from fastfcn.checking.value_problems import Numbers, strange_numbers
from fastfcn.checking.values import ValueCount
from fastfcn.utils.types import IGNORE_INDEX

RARE = 0.002  # share of all pixels below which a class is rare
FEW = 5  # images, of which shares say nothing
REST = "`--fix OUT` leaves them out and lists them."


def file_problems(found: Found) -> Iterator[Problem]:
    """Images and masks that have no other half, or too many."""
    files = found.contents.files
    spelled = spelled_otherwise(found)
    images = [number for number in found.images_alone if number not in spelled]
    masks = [number for number in found.masks_alone if number not in spelled.values()]
    splits = dict(zip(found.images_alone, found.alone_splits, strict=True))
    paired = set(found.splits)
    tested = [number for number in images if splits[number] not in paired]
    images = [number for number in images if splits[number] in paired]
    if spelled:
        both = [number for pair in spelled.items() for number in pair]
        message = f"Images whose mask is spelled in another way (capitals, accents, spaces): {len(spelled)}."
        yield Problem("names_differ", ERROR, len(both), Paths(files, both), message, FIXED + "renames the masks.")
    if images:
        message = f"Images without a mask: {len(images)}."
        yield Problem("image_without_mask", ERROR, len(images), Paths(files, images), message,
                      "Add the masks, or move these images elsewhere. " + REST)  # fmt: skip
    if masks:
        message = f"Masks without an image: {len(masks)}."
        yield Problem("mask_without_image", ERROR, len(masks), Paths(files, masks), message,
                      "Add the images, or move these masks elsewhere. " + REST)  # fmt: skip
    if tested:
        names = list(found.layout.splits)
        which = ", ".join(sorted({names[splits[number]] for number in tested}))
        message = f"The split {which} has {len(tested)} images and no masks."
        yield Problem("split_without_masks", WARNING, len(tested), Paths(files, tested), message,
                      "It can be predicted, but neither trained on nor evaluated.")  # fmt: skip
    if found.same_name:
        message = f"Files that claim the same name as another (a.jpg and a.png): {len(found.same_name)}."
        yield Problem("same_name_twice", ERROR, len(found.same_name), Paths(files, found.same_name), message,
                      "Keep one of each. " + REST)  # fmt: skip
    if found.lists and found.lists.unknown:
        unknown = found.lists.unknown
        lists = tuple(dict.fromkeys(line.partition(": ")[0] for line in unknown))
        message = f"Names in lists that no image has: {', '.join(line.partition(': ')[2] for line in unknown[:5])}"
        message += f" and {len(unknown) - 5} more." if len(unknown) > 5 else "."
        advice = "Add the images, or remove the names. `--fix OUT` writes the lists without them."
        yield Problem("listed_without_image", ERROR, len(lists), lists, message, advice)


def spelled_otherwise(found: Found) -> dict[int, int]:
    """Images alone and masks alone whose names are the same but for capitals, accents' encoding and spaces."""
    files = found.contents.files
    if not len(found.images_alone) or not len(found.masks_alone):
        return {}
    masks = {_plain(files.name(number), found, mask=True): number for number in found.masks_alone}
    pairs = ((number, masks.pop(_plain(files.name(number), found, mask=False), None)) for number in found.images_alone)
    return {image: mask for image, mask in pairs if mask is not None}


def _plain(name: str, found: Found, mask: bool) -> str:
    stem, affix = Path(name).stem, (found.match.masks if mask else found.match.images).affix
    shared = affix.core(stem) if affix.fits(stem) else stem
    return "".join(unicodedata.normalize("NFC", shared).casefold().split()).replace("_", "").replace("-", "")


def twin_problems(found: Found, tally: Tally) -> Iterator[Problem]:
    """The same image in two splits, or twice in one."""
    groups, splits = same_digest(tally.digests), np.frombuffer(bytes(found.splits), np.uint8)
    leaking, twice = np.zeros(tally.count, bool), np.zeros(tally.count, bool)
    for number in range(1, int(groups.max(initial=0)) + 1):
        group = np.flatnonzero(groups == number)
        target = leaking if len(set(splits[group].tolist())) > 1 else twice
        target[group] = True
    near, example = alike(tally.fingerprints, splits, leaking)
    yield from _leaks(found, leaking)
    if example:
        files = pair_files(found, np.flatnonzero(near).tolist(), "image")
        first = pair_files(found, list(example), "image")
        message = f"Images of two splits that look the same: {len(files)} (such as {first[0]} and {first[1]})."
        yield Problem("alike_in_two_splits", WARNING, len(files), files, message,
                      "Scores on such images flatter. Split by sequence or by source.")  # fmt: skip
    if twice.any():
        numbers = np.flatnonzero(twice).tolist()
        message = f"Images that are the same file as another of their split: {len(numbers)}."
        yield Problem("image_twice", WARNING, len(numbers), pair_files(found, numbers, "image"), message,
                      "Keep one of each. " + FIXED + "keeps the first.")  # fmt: skip


def _leaks(found: Found, leaking: np.ndarray) -> Iterator[Problem]:
    numbers = [found.images[pair] for pair in np.flatnonzero(leaking).tolist()]
    numbers = sorted({*numbers, *found.in_two_lists})
    if numbers:
        message = f"Images that are in two splits: {len(numbers)}."
        yield Problem("same_image_in_two_splits", ERROR, len(numbers), Paths(found.contents.files, numbers), message,
                      "Scores on them say nothing. " + FIXED + "keeps them where they are evaluated.")  # fmt: skip


def class_problems(
    found: Found, tally: Tally, values: list[ValueCount], numbers: Numbers, problems: list[Problem]
) -> Iterator[Problem]:
    """Classes that a split lacks, rare ones, and masks of background alone; not of values that are `problems`."""
    mistakes = {*strange_numbers(numbers, problems), *slips(values)}
    classes = [each for each in values if each.value not in mistakes]
    classes = [each for each in classes if each.value != IGNORE_INDEX or len(numbers.ids) == 1]
    trained = [split for number, split in enumerate(found.layout.splits) if number in set(found.splits)]
    lines = []
    for split in trained if len(trained) > 1 else ():
        if absent := [str(each.value) for each in classes if not each.by_split.get(split)]:
            lines.append(f"{split} lacks {', '.join(absent[:8])}{' and more' if len(absent) > 8 else ''}")
    if lines:
        message = f"Values that a split never shows: {'; '.join(lines)}."
        advice = "Such a class is not learnt, or has no score. Split the images in another way, or add some."
        yield Problem("class_absent", WARNING, len(lines), (), message, advice)
    yield from _rare(found, tally, classes)
    yield from _empty(found, tally, classes, numbers)


def _empty(found: Found, tally: Tally, classes: list[ValueCount], numbers: Numbers) -> Iterator[Problem]:
    """Masks of 0, or of black, alone."""
    colored = tally.has(Sign.MASK_COLORED)
    values = {each.value for each in classes}
    if len(values) < 2 or not values & {0, (0, 0, 0)}:
        return
    pairs = tally.has(Sign.ONE_VALUE) & ~colored & numbers.used & tally.holds(0)
    if (black := tally.colors.get((0, 0, 0))) is not None:
        pairs |= tally.has(Sign.ONE_VALUE) & colored & tally.holds(black)
    if pairs.any():
        files = pair_files(found, np.flatnonzero(pairs).tolist(), "mask")
        message = f"Masks that hold nothing but {'0' if 0 in values else 'black'}: {len(files)}."
        advice = "If nothing was drawn into them yet, draw it or remove the pairs. Scenes without anything are right."
        yield Problem("mask_empty", WARNING, len(files), files, message, advice)


def _rare(found: Found, tally: Tally, classes: list[ValueCount]) -> Iterator[Problem]:
    """Classes of very few pixels; of a handful of images that says nothing."""
    total = sum(each.pixels for each in classes)
    rare = [each for each in classes if each.pixels < RARE * total]
    if not rare or tally.count < FEW:
        return
    shares = [f"{each.value} {each.pixels / total:.3%} in {each.images / tally.count:.1%}" for each in rare[:6]]
    more = f" and {len(rare) - 6} more" if len(rare) > 6 else ""
    pairs = np.zeros(tally.count, bool)
    for each in rare:
        slot = each.value if isinstance(each.value, int) else tally.colors.get(each.value)
        if slot is not None:
            pairs |= tally.holds(slot) & (tally.has(Sign.MASK_COLORED) == isinstance(each.value, tuple))
    files = pair_files(found, np.flatnonzero(pairs).tolist(), "mask")
    message = f"Rare classes, with their shares of pixels and of images: {', '.join(shares)}{more}."
    advice = "`fastfcn init DIR` chooses a loss for that. More images of these classes help most."
    yield Problem("class_imbalance", WARNING, len(files), files, message, advice)
