"""Problems of the dataset as a whole: images in two splits, duplicates, and missing, rare or empty classes."""

from collections.abc import Iterator

import numpy as np

from fastfcn.checking.file_problems import pair_files
from fastfcn.checking.files import Paths
from fastfcn.checking.images import duplicate_groups, find_similar
from fastfcn.checking.layouts import DatasetFiles
from fastfcn.checking.problem import ERROR, INIT, WARNING, Flag, Problem, fix_with
from fastfcn.checking.statistics import Statistics, ValueCount
from fastfcn.checking.value_problems import MaskIds, mistaken_ids, near_colors
from fastfcn.utils.sizes import IGNORE_INDEX

RARE = 0.002  # fraction of all pixels below which a class is rare
MIN_PAIRS = 5  # pairs below which fractions of pixels are not judged


def duplicate_problems(dataset: DatasetFiles, stats: Statistics) -> Iterator[Problem]:
    """The same or a similar image in two splits, and the same image twice in one split."""
    groups, splits = duplicate_groups(stats.digests), np.frombuffer(bytes(dataset.splits), np.uint8)
    leaking, repeated = np.zeros(stats.count, bool), np.zeros(stats.count, bool)
    for number in range(1, int(groups.max(initial=0)) + 1):
        group = np.flatnonzero(groups == number)
        target = leaking if len(set(splits[group].tolist())) > 1 else repeated
        target[group] = True
    similar, example = find_similar(stats.fingerprints, splits, leaking)
    yield from _leaks(dataset, leaking)
    if example:
        files = pair_files(dataset, np.flatnonzero(similar).tolist(), "image")
        first = pair_files(dataset, list(example), "image")
        message = f"Images that look the same in two splits: {len(files)} (such as {first[0]} and {first[1]})."
        advice = "Validation scores are too high with such images. Split the dataset by video or by source."
        yield Problem("similar_in_two_splits", WARNING, len(files), files, message, advice)
    if repeated.any():
        files = pair_files(dataset, np.flatnonzero(repeated).tolist(), "image")
        message = f"Identical image files in one split: {len(files)}."
        advice = "Keep one of each. " + fix_with("duplicates") + "keeps the first."
        yield Problem("duplicate_image", WARNING, len(files), files, message, advice)


def _leaks(dataset: DatasetFiles, leaking: np.ndarray) -> Iterator[Problem]:
    numbers = [dataset.images[pair] for pair in np.flatnonzero(leaking).tolist()]
    numbers = sorted({*numbers, *dataset.in_two_lists})
    if numbers:
        files = Paths(dataset.contents.files, numbers)
        message = f"Images that are in two splits: {len(numbers)}."
        advice = "Scores on training images are meaningless. " + fix_with("duplicates") + "removes them from train."
        yield Problem("same_image_in_two_splits", ERROR, len(numbers), files, message, advice)


def class_problems(
    dataset: DatasetFiles, stats: Statistics, values: list[ValueCount], mask_ids: MaskIds, problems: list[Problem]
) -> Iterator[Problem]:
    """Classes missing from a split, rare classes, and empty masks; ignores values that `problems` explain."""
    mistakes = {*mistaken_ids(mask_ids, problems), *near_colors(values)}
    classes = [entry for entry in values if entry.value not in mistakes]
    classes = [entry for entry in classes if entry.value != IGNORE_INDEX or len(mask_ids.ids) == 1]
    labeled = [split for number, split in enumerate(dataset.layout.splits) if number in set(dataset.splits)]
    lines = []
    for split in labeled if len(labeled) > 1 else ():
        if absent := [str(entry.value) for entry in classes if not entry.by_split.get(split)]:
            lines.append(f"{split} lacks {', '.join(absent[:8])}{' and more' if len(absent) > 8 else ''}")
    if lines:
        message = f"Mask values missing from a split: {'; '.join(lines)}."
        advice = "The class cannot be learned or has no score. Split the dataset differently or add images."
        yield Problem("class_absent", WARNING, len(lines), (), message, advice)
    yield from _rare(dataset, stats, classes)
    yield from _empty(dataset, stats, classes, mask_ids)


def _empty(dataset: DatasetFiles, stats: Statistics, classes: list[ValueCount], mask_ids: MaskIds) -> Iterator[Problem]:
    """Masks that contain only 0, or only black."""
    colored = stats.has(Flag.MASK_COLORED)
    values = {entry.value for entry in classes}
    if len(values) < 2 or not values & {0, (0, 0, 0)}:
        return
    pairs = stats.has(Flag.SINGLE_VALUE) & ~colored & mask_ids.used & stats.holds(0)
    if (black := stats.colors.get((0, 0, 0))) is not None:
        pairs |= stats.has(Flag.SINGLE_VALUE) & colored & stats.holds(black)
    if pairs.any():
        files = pair_files(dataset, np.flatnonzero(pairs).tolist(), "mask")
        message = f"Masks that contain only {'0' if 0 in values else 'black'}: {len(files)}."
        advice = "If they have not been annotated yet, annotate them or remove the pairs. Empty scenes are fine."
        yield Problem("mask_empty", WARNING, len(files), files, message, advice)


def _rare(dataset: DatasetFiles, stats: Statistics, classes: list[ValueCount]) -> Iterator[Problem]:
    """Classes with very few pixels; not judged in datasets of a few images."""
    total = sum(entry.pixels for entry in classes)
    rare = [entry for entry in classes if entry.pixels < RARE * total]
    if not rare or stats.count < MIN_PAIRS:
        return
    shares = [f"{entry.value} ({entry.pixels / total:.3%} in {entry.images / stats.count:.1%})" for entry in rare[:6]]
    more = f" and {len(rare) - 6} more" if len(rare) > 6 else ""
    pairs = np.zeros(stats.count, bool)
    for entry in rare:
        slot = entry.value if isinstance(entry.value, int) else stats.colors.get(entry.value)
        if slot is not None:
            pairs |= stats.holds(slot) & (stats.has(Flag.MASK_COLORED) == isinstance(entry.value, tuple))
    files = pair_files(dataset, np.flatnonzero(pairs).tolist(), "mask")
    message = f"Rare classes (percent of all pixels in percent of images): {', '.join(shares)}{more}."
    advice = INIT + "chooses a loss for imbalanced classes. More images of these classes help most."
    yield Problem("class_imbalance", WARNING, len(files), files, message, advice)
