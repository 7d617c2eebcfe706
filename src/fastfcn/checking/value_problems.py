"""Problems of mask values: ids that are ignored, shifted, missing or outliers, and inconsistent colors and palettes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fastfcn.checking.file_problems import pair_files
from fastfcn.checking.layouts import DatasetFiles
from fastfcn.checking.masks import Color
from fastfcn.checking.problem import ERROR, FIX, INIT, UNUSABLE_MASK, WARNING, Flag, Problem, fix_with
from fastfcn.checking.statistics import MORE, Statistics, ValueCount, color_at, palette_bytes
from fastfcn.utils.sizes import IGNORE_INDEX

USUAL = 0.8  # fraction of masks that contain an id from which it counts as usual
MIN_EVIDENCE = 3.0  # log likelihood ratio above which the ids of a mask count as shifted
OUTLIER_MASKS = 0.02  # maximum fraction of masks that contain an outlier
MIN_MASKS = 5  # masks below which shifts and outliers are not judged
CLOSE = 10  # maximum difference per channel between a color and the class color it probably stands for
RARE_SHARE = 0.05  # maximum pixels of such a color, as a fraction of those of the class color
SHOWN = 8  # colors listed in a message


@dataclass
class MaskIds:
    """The ids in a dataset's masks, and which masks contain them."""

    dataset: DatasetFiles
    stats: Statistics
    values: list[ValueCount]
    known: frozenset[int]  # ids of the known dataset that the folder matches
    named: dict  # values that a class list in the folder names -> name

    @cached_property
    def used(self) -> np.ndarray:
        """Which pairs have a mask of ids, only lossless ones if there are any; bool (pairs,)."""
        usable = ~self.stats.has(UNUSABLE_MASK | Flag.MASK_COLORED | Flag.MASK_IS_PHOTO)
        reliable = usable & ~self.stats.has(Flag.MASK_LOSSY)
        return reliable if reliable.any() else usable

    @cached_property
    def ids(self) -> list[int]:
        """All ids except 255, ascending."""
        return [entry.value for entry in self.values if isinstance(entry.value, int) and entry.value != IGNORE_INDEX]

    @property
    def outliers(self) -> list[int]:
        """Ids that are probably mistakes (`outlier_ids`)."""
        return outlier_ids(self)

    @property
    def explained(self) -> bool:
        """Whether all ids are those of a known dataset."""
        return bool(self.known) and self.known >= {entry.value for entry in self.values}

    def containing(self, mask_id: int) -> np.ndarray:
        """Which of the used masks contain an id; bool (pairs,)."""
        return self.used & self.stats.holds(mask_id)

    def problem(self, kind: str, severity: str, pairs: np.ndarray, message: str, advice: str) -> Problem:
        return _problem(self.dataset, kind, severity, pairs, message, advice)


def _problem(dataset: DatasetFiles, kind: str, severity: str, pairs: np.ndarray, message: str, advice: str) -> Problem:
    """A problem with the masks of the `pairs`, bool (pairs,)."""
    indices = np.flatnonzero(pairs).tolist()
    return Problem(kind, severity, max(len(indices), 1), pair_files(dataset, indices, "mask"), message, advice)


def id_problems(mask_ids: MaskIds) -> list[Problem]:
    """Problems of ids; the first rule that explains them suppresses the rules that would report the same again."""
    problems = [*_only_ignored(mask_ids), *_single_class(mask_ids)]
    if mask_ids.explained:
        return problems
    rules: tuple[Callable[[MaskIds], Iterator[Problem]], ...] = (_binary, _some_binary, _stretched)
    scale = next((matches for rule in rules if (matches := list(rule(mask_ids)))), [])
    problems += scale
    if not any(problem.kind in ("binary_255", "stretched_ids") for problem in scale):
        shifted = list(_off_by_one(mask_ids))
        problems += shifted
        if not shifted:
            problems += [*_outliers(mask_ids), *_from_one(mask_ids), *_gaps(mask_ids)]
    return problems


def _only_ignored(mask_ids: MaskIds) -> Iterator[Problem]:
    """Masks that contain only 255, if 255 is not a class."""
    pairs = mask_ids.used & mask_ids.stats.has(Flag.SINGLE_VALUE) & mask_ids.stats.holds(IGNORE_INDEX)
    if pairs.any() and len(mask_ids.ids) > 1:
        message = f"Masks that contain only 255, which is ignored: {np.count_nonzero(pairs)}."
        yield mask_ids.problem(
            "mask_all_ignored", WARNING, pairs, message, "Annotate these images or remove the pairs."
        )


def _single_class(mask_ids: MaskIds) -> Iterator[Problem]:
    if len(mask_ids.values) == 1 and mask_ids.used.any():
        only = mask_ids.values[0].value
        message = f"All masks contain only the value {only}; training needs at least two classes."
        yield mask_ids.problem("one_class", ERROR, mask_ids.used, message, "Check that these are the right masks.")


def _binary(mask_ids: MaskIds) -> Iterator[Problem]:
    """Masks of 255 and one other id: 255 is a class, but would be ignored."""
    pairs = mask_ids.containing(IGNORE_INDEX)
    if len(mask_ids.ids) == 1 and pairs.any():
        message = (
            f"The masks contain only {mask_ids.ids[0]} and 255. 255 usually means ignored, which leaves a single class."
        )
        advice = INIT + "makes 255 a class. " + FIX + "writes 0 and 1."
        yield mask_ids.problem("binary_255", ERROR, pairs, message, advice)


def _some_binary(mask_ids: MaskIds) -> Iterator[Problem]:
    """A few masks of 0 and 255, if no other mask uses 255."""
    pairs = mask_ids.containing(IGNORE_INDEX) & ~mask_ids.stats.has(Flag.SINGLE_VALUE)
    if len(mask_ids.ids) < 2 or not pairs.any():
        return
    others = np.unpackbits(mask_ids.stats.present[pairs], axis=1)[:, 1:IGNORE_INDEX]
    if others.any() or np.count_nonzero(pairs) * 2 > np.count_nonzero(mask_ids.used):
        return
    message = f"Masks of 0 and 255, while no other mask contains 255: {np.count_nonzero(pairs)}."
    advice = (
        "Check whether 255 means class 1 in them. "
        + fix_with("binary")
        + "writes 1 if the others contain only 0 and 1."
    )
    yield mask_ids.problem("some_binary_masks", ERROR, pairs, message, advice)


def _stretched(mask_ids: MaskIds) -> Iterator[Problem]:
    """Ids spread evenly over 0-255 to make them visible: 0, 85, 170, 255."""
    values = [*mask_ids.ids, IGNORE_INDEX]
    steps, pairs = np.diff(values), mask_ids.containing(IGNORE_INDEX)
    if len(values) < 3 or not pairs.any() or steps.min() < 8 or steps.max() - steps.min() > 1:
        return
    message = f"The ids are spread evenly up to 255 ({', '.join(map(str, values))}), so 255 is probably a class."
    advice = INIT + "makes each id a class. " + FIX + "writes 0, 1, 2, ..."
    yield mask_ids.problem("stretched_ids", ERROR, pairs, message, advice)


def _off_by_one(mask_ids: MaskIds) -> Iterator[Problem]:
    """Masks whose ids are all one too high: they lack 0, which others contain, and only they contain the highest id."""
    ids, used = mask_ids.ids, np.flatnonzero(mask_ids.used)
    if len(ids) < 3 or len(used) < MIN_MASKS or mask_ids.named.keys() >= set(ids):
        return
    highest = mask_ids.containing(ids[-1])
    pairs, rest = highest & ~mask_ids.stats.holds(0), mask_ids.used & ~highest
    if not pairs.any() or (highest & ~pairs).any() or 2 * np.count_nonzero(pairs) > len(used):
        return
    counts = [np.count_nonzero(rest & mask_ids.stats.holds(mask_id)) for mask_id in range(IGNORE_INDEX)]
    frequency = np.clip(np.array(counts) / max(1, np.count_nonzero(rest)), 0.02, 0.98)
    evidence = (_shift_evidence(mask_ids.stats.present[pair], frequency) for pair in np.flatnonzero(pairs))
    if frequency[0] < USUAL or not all(ratio > MIN_EVIDENCE for ratio in evidence):
        return
    span = f"1 to {ids[-1]} instead of 0 to {ids[-2]}"
    message = f"Masks whose ids are probably one too high ({span}): {np.count_nonzero(pairs)}."
    yield mask_ids.problem(
        "ids_off_by_one", ERROR, pairs, message, "Look at them. " + fix_with("shift") + "subtracts one."
    )


def _shift_evidence(present: np.ndarray, frequency: np.ndarray) -> float:
    """Log likelihood ratio of the ids of a mask being one too high versus being right.

    `present`: the ids in the mask, as packed bits; `frequency`: the fraction of other masks with each id, (255,).
    """
    ids = np.unpackbits(present).astype(bool)[:IGNORE_INDEX]
    shifted = np.append(ids[1:], False)
    yes, no = np.log(frequency), np.log(1 - frequency)
    return float(np.where(shifted, yes, no).sum() - np.where(ids, yes, no).sum())


def _outliers(mask_ids: MaskIds) -> Iterator[Problem]:
    """Ids far above all others, in very few masks."""
    outliers = outlier_ids(mask_ids)
    if outliers:
        pairs = np.logical_or.reduce([mask_ids.containing(mask_id) for mask_id in outliers])
        listed = ", ".join(map(str, outliers))
        message = f"Ids far above the others: {listed}. Masks that contain them: {np.count_nonzero(pairs)}."
        advice = "Check whether they are intended. " + fix_with("outliers") + "sets them to 255, which is ignored."
        yield mask_ids.problem("outlier_ids", ERROR, pairs, message, advice)


def outlier_ids(mask_ids: MaskIds) -> list[int]:
    """Ids above a gap that few masks contain (OUTLIER_MASKS), if the ids below have almost no gaps."""
    total = int(np.count_nonzero(mask_ids.used))
    few = max(1, OUTLIER_MASKS * total)
    counts = {mask_id: int(np.count_nonzero(mask_ids.containing(mask_id))) for mask_id in mask_ids.ids}
    ids, outliers = list(mask_ids.ids), []
    while len(ids) > 2 and counts[ids[-1]] <= few and ids[-1] > ids[-2] + 1 and ids[-1] not in mask_ids.named:
        outliers.insert(0, ids.pop())
    gapless = bool(ids) and ids[-1] - ids[0] + 1 <= len(ids) / USUAL
    return outliers if gapless and total >= MIN_MASKS and all(counts[mask_id] > few for mask_id in ids[:2]) else []


def _from_one(mask_ids: MaskIds) -> Iterator[Problem]:
    if len(mask_ids.ids) > 1 and mask_ids.ids[0] == 1 and not mask_ids.named.keys() >= set(mask_ids.ids):
        message = f"The ids start at 1 (and end at {mask_ids.ids[-1]}); most programs count classes from 0."
        advice = (
            INIT + "writes a description with these ids; no action needed. " + fix_with("renumber") + "subtracts one."
        )
        yield mask_ids.problem("ids_from_one", WARNING, mask_ids.used, message, advice)


def _gaps(mask_ids: MaskIds) -> Iterator[Problem]:
    outliers = set(outlier_ids(mask_ids))
    ids = [mask_id for mask_id in mask_ids.ids if mask_id not in outliers]
    missing = sorted(set(range(ids[0], ids[-1])) - set(ids)) if len(ids) > 1 else []
    if missing and not mask_ids.named.keys() >= set(ids):
        pairs = np.logical_or.reduce([mask_ids.containing(mask_id) for mask_id in ids if mask_id > missing[0]])
        message = f"Unused ids between those in the masks: {ranges(missing)}."
        advice = (
            INIT + "makes classes of the ids in use; no action needed. " + fix_with("renumber") + "writes 0, 1, 2, ..."
        )
        yield mask_ids.problem("id_gaps", WARNING, pairs, message, advice)


def mistaken_ids(mask_ids: MaskIds, problems: list[Problem]) -> set[int]:
    """Ids that are annotation mistakes according to the problems found so far."""
    kinds = {problem.kind for problem in problems}
    mistaken = set(outlier_ids(mask_ids)) if "outlier_ids" in kinds else set()
    return mistaken | ({mask_ids.ids[-1]} if "ids_off_by_one" in kinds else set())


def ranges(numbers: list[int]) -> str:
    """Format ascending numbers: 3, 7-9, 12 for [3, 7, 8, 9, 12]."""
    runs = np.split(np.array(numbers), np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def color_problems(dataset: DatasetFiles, stats: Statistics, kind: str, values: list[ValueCount]) -> list[Problem]:
    """Problems of colors and palettes; `kind` ("index" or "color") is what most masks contain."""
    problems = [*_mixed_kinds(dataset, stats, kind), *_palettes(dataset, stats)]
    if kind == "color":
        too_many = list(_too_many(dataset, stats))
        problems += too_many or [*_colored(dataset, stats, values), *_near_colors(dataset, stats, values)]
    return problems


def _mixed_kinds(dataset: DatasetFiles, stats: Statistics, kind: str) -> Iterator[Problem]:
    """Color masks among id masks, or the other way round."""
    usable = ~stats.has(UNUSABLE_MASK | Flag.MASK_IS_PHOTO)
    colored, grays = stats.has(Flag.MASK_COLORED), stats.has(Flag.MASK_GRAY_COLORS)
    pairs = usable & (colored if kind == "index" else ~colored & ~grays)
    if pairs.any():
        what = "Color masks among masks of ids" if kind == "index" else "Masks of ids among color masks"
        message = f"{what}: {np.count_nonzero(pairs)}."
        advice = "Convert all masks to one kind. " + FIX + "converts them with the palette of the others, if any."
        yield _problem(dataset, "mask_kinds_differ", ERROR, pairs, message, advice)


def _palettes(dataset: DatasetFiles, stats: Statistics) -> Iterator[Problem]:
    """Palette masks: their ids are used, but the same ids should have the same colors in all files."""
    pairs = stats.has(Flag.MASK_PALETTE)
    if not pairs.any():
        return
    moved, recolored = palettes_differ(stats)
    if moved.any():
        message = f"Palette masks in which a color has another id than in most masks: {np.count_nonzero(moved)}."
        advice = (
            "The program that saved them chose a palette per file. " + fix_with("palette") + "assigns ids by color."
        )
        yield _problem(dataset, "palettes_differ", ERROR, moved, message, advice)
    elif recolored.any():
        message = f"Palette masks in which an id has another color than in most masks: {np.count_nonzero(recolored)}."
        advice = "The ids are used, not the colors. Check that they mean the same in all files."
        yield _problem(dataset, "palettes_vary", WARNING, recolored, message, advice)
    gray = ~pairs & ~stats.has(UNUSABLE_MASK | Flag.MASK_COLORED)
    if others := np.count_nonzero(gray):
        message = f"Some masks have a palette ({pairs.sum()}) and some are grayscale ({others})."
        advice = "The ids are used, not the colors. Check that they mean the same in both kinds of files."
        fewer = pairs if pairs.sum() <= others else gray
        yield _problem(dataset, "palette_and_gray", WARNING, fewer, message, advice)


def palettes_differ(stats: Statistics) -> tuple[np.ndarray, np.ndarray]:
    """Compare the palettes of all masks, the most common ones first; returns two arrays, bool (pairs,).

    The first marks masks in which a color has another id than in masks with a more common palette, which shows that
    colors define the classes. The second marks masks in which an id has another color.
    """
    pairs = stats.has(Flag.MASK_PALETTE)
    moved, recolored = np.zeros(stats.count, bool), np.zeros(stats.count, bool)
    counts = np.bincount(stats.palette_of[pairs], minlength=256)[: len(stats.palettes)]
    ids: dict[Color, int] = {}
    colors: dict[int, Color] = {}
    for number in np.argsort(-counts, kind="stable").tolist():
        with_palette = pairs & (stats.palette_of == number)
        palette = palette_bytes(stats, number)
        used = np.unpackbits(np.bitwise_or.reduce(stats.present[with_palette], axis=0, initial=0))
        for mask_id in np.flatnonzero(used).tolist():
            color = color_at(palette, mask_id)
            if ids.setdefault(color, mask_id) != mask_id:
                moved |= with_palette & stats.holds(mask_id)
            if colors.setdefault(mask_id, color) != color:
                recolored |= with_palette & stats.holds(mask_id)
    return moved, recolored


def _colored(dataset: DatasetFiles, stats: Statistics, values: list[ValueCount]) -> Iterator[Problem]:
    listed = ", ".join(str(list(entry.value)) for entry in values[:SHOWN] if isinstance(entry.value, tuple))
    more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    message = f"The masks encode classes as colors, {len(values)} in total: {listed}{more}."
    advice = (
        INIT
        + "uses them as they are; no action needed. "
        + fix_with("ids")
        + "writes palette masks of the same colors."
    )
    yield _problem(dataset, "color_masks", WARNING, stats.has(Flag.MASK_COLORED), message, advice)


def near_colors(values: list[ValueCount]) -> dict[Color, Color]:
    """Map each rare color that is almost the color of a class to that color."""
    replacements: dict[Color, Color] = {}
    for rare in values:
        for common in values:
            color, other = rare.value, common.value
            if not isinstance(color, tuple) or not isinstance(other, tuple) or color == other:
                continue
            close = max(abs(a - b) for a, b in zip(color, other, strict=True)) <= CLOSE
            if close and rare.pixels <= RARE_SHARE * common.pixels:
                replacements[color] = other
    return replacements


def _near_colors(dataset: DatasetFiles, stats: Statistics, values: list[ValueCount]) -> Iterator[Problem]:
    rare = near_colors(values)
    if rare:
        slots = [stats.colors[color] for color in rare if color in stats.colors]
        containing = [stats.holds(slot) for slot in slots] or [np.zeros(stats.count, bool)]
        pairs = stats.has(Flag.MASK_COLORED) & np.logical_or.reduce(containing)
        listed = ", ".join(f"{list(color)} instead of {list(other)}" for color, other in list(rare.items())[:3])
        message = f"Rare colors that are almost the color of a class: {listed}."
        advice = fix_with("near-colors") + "replaces them by the class color."
        yield _problem(dataset, "near_colors", ERROR, pairs, message, advice)


def _too_many(dataset: DatasetFiles, stats: Statistics) -> Iterator[Problem]:
    pairs = stats.has(Flag.MASK_COLORED)
    if (pairs & stats.holds(MORE)).any():
        message = f"The masks contain more than {MORE - 1} colors; at most 254 classes are supported."
        advice = "If the colors distinguish instances, convert them to class colors first."
        yield _problem(dataset, "too_many_values", ERROR, pairs, message, advice)
