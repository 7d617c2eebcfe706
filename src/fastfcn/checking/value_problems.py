"""Problems of what the masks' values mean: numbers that are ignored by custom, off by one, missing, or lonely."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fastfcn.checking.file_problems import ERROR, FIXED, WARNING, pair_files
from fastfcn.checking.flags import NO_MASK, Sign
from fastfcn.checking.layouts import Found
from fastfcn.checking.problem import Problem
from fastfcn.checking.statistics import Tally
from fastfcn.checking.values import ValueCount
from fastfcn.utils.types import IGNORE_INDEX

INIT = "`fastfcn init DIR` "
MANY = 0.8  # share of masks that hold a number which is usually there
SURE = 3.0  # by how much e to the power of it is a shift likelier than none
ALONE = 0.02  # share of masks up to which a number is held by few
JUDGED = 5  # masks, from which "few" says something


@dataclass
class Numbers:
    """The numbers of a folder's masks, and which masks hold them."""

    found: Found
    tally: Tally
    values: list[ValueCount]
    known: frozenset[int]  # numbers that a data set of the catalogue explains

    @cached_property
    def used(self) -> np.ndarray:
        """Which pairs have a mask of numbers, those that can be relied on if there are any; bool (pairs,)."""
        usable = ~self.tally.has(NO_MASK | Sign.MASK_COLORED | Sign.MASK_PICTURE)
        reliable = usable & ~self.tally.has(Sign.MASK_BLURRED | Sign.MASK_LOSSY)
        return reliable if reliable.any() else usable

    @cached_property
    def ids(self) -> list[int]:
        """The numbers without 255."""
        return [each.value for each in self.values if isinstance(each.value, int) and each.value != IGNORE_INDEX]

    @property
    def explained(self) -> bool:
        return bool(self.known) and self.known >= {each.value for each in self.values}

    def holding(self, number: int) -> np.ndarray:
        return self.used & self.tally.holds(number)

    def problem(self, kind: str, severity: str, pairs: np.ndarray, message: str, advice: str) -> Problem:
        numbers = np.flatnonzero(pairs).tolist()
        return Problem(kind, severity, max(len(numbers), 1), pair_files(self.found, numbers, "mask"), message, advice)


def number_problems(numbers: Numbers) -> list[Problem]:
    """What is wrong with the numbers; a rule that explains them silences those that would say it again."""
    problems = [*_only_ignored(numbers), *_too_few(numbers)]
    if numbers.explained:
        return problems
    rules: tuple[Callable[[Numbers], Iterator[Problem]], ...] = (_binary, _some_binary, _stretched)
    scale = next((found for rule in rules if (found := list(rule(numbers)))), [])
    problems += scale
    if not any(each.kind in ("binary_255", "stretched_ids") for each in scale):
        shifted = list(_off_by_one(numbers))
        problems += shifted
        if not shifted:
            problems += [*_lonely(numbers), *_from_one(numbers), *_gaps(numbers)]
    return problems


def _only_ignored(numbers: Numbers) -> Iterator[Problem]:
    """Masks of 255 alone, where 255 is not a class."""
    pairs = numbers.used & numbers.tally.has(Sign.ONE_VALUE) & numbers.tally.holds(IGNORE_INDEX)
    if pairs.any() and len(numbers.ids) > 1:
        message = f"Masks that hold nothing but 255, which is ignored by custom: {np.count_nonzero(pairs)}."
        yield numbers.problem("mask_all_ignored", WARNING, pairs, message, "Draw these masks, or remove the pairs.")


def _too_few(numbers: Numbers) -> Iterator[Problem]:
    if len(numbers.values) == 1 and numbers.used.any():
        only = numbers.values[0].value
        message = f"All masks hold {only} and nothing else: there is nothing to tell apart."
        yield numbers.problem("one_class", ERROR, numbers.used, message, "Look whether these are the right masks.")


def _binary(numbers: Numbers) -> Iterator[Problem]:
    """Masks of 255 and one other number: two classes, of which the custom ignores one."""
    pairs = numbers.holding(IGNORE_INDEX)
    if len(numbers.ids) == 1 and pairs.any():
        message = f"The masks hold {numbers.ids[0]} and 255: 255 is ignored by custom, so that one class alone is left."
        advice = INIT + "makes 255 a class. " + FIXED + "writes 0 and 1."
        yield numbers.problem("binary_255", ERROR, pairs, message, advice)


def _some_binary(numbers: Numbers) -> Iterator[Problem]:
    """Some masks of 0 and 255 among masks of other numbers, none of which ever ignores a pixel."""
    pairs = numbers.holding(IGNORE_INDEX) & ~numbers.tally.has(Sign.ONE_VALUE)
    if len(numbers.ids) < 2 or not pairs.any():
        return
    others = np.unpackbits(numbers.tally.present[pairs], axis=1)[:, 1:IGNORE_INDEX]
    if others.any() or np.count_nonzero(pairs) * 2 > np.count_nonzero(numbers.used):
        return
    message = f"Masks of 0 and 255 among masks of other numbers: {np.count_nonzero(pairs)}. Nowhere else is 255 used."
    advice = "Look whether 255 stands for 1 in them. " + FIXED + "writes 1 where all other masks hold 0 and 1 alone."
    yield numbers.problem("some_binary_masks", ERROR, pairs, message, advice)


def _stretched(numbers: Numbers) -> Iterator[Problem]:
    """Numbers spread over 0 to 255 so that a person can see them: 0, 85, 170, 255."""
    values = [*numbers.ids, IGNORE_INDEX]
    steps = np.diff(values)
    if len(values) < 3 or not numbers.holding(IGNORE_INDEX).any() or steps.min() < 8 or steps.max() - steps.min() > 1:
        return
    message = f"The numbers are spread evenly up to 255 ({', '.join(map(str, values))}): 255 seems to be a class."
    advice = INIT + "makes each a class. " + FIXED + "writes 0, 1, 2 and so on."
    yield numbers.problem("stretched_ids", ERROR, numbers.holding(IGNORE_INDEX), message, advice)


def _off_by_one(numbers: Numbers) -> Iterator[Problem]:
    """Masks in which every number is one too high: they lack 0, which others hold, and alone hold the highest."""
    ids, used = numbers.ids, np.flatnonzero(numbers.used)
    if len(ids) < 3 or len(used) < JUDGED:
        return
    highest = numbers.holding(ids[-1])
    pairs, rest = highest & ~numbers.tally.holds(0), numbers.used & ~highest
    if not pairs.any() or (highest & ~pairs).any() or 2 * np.count_nonzero(pairs) > len(used):
        return
    held = [np.count_nonzero(rest & numbers.tally.holds(number)) for number in range(IGNORE_INDEX)]
    usual = np.clip(np.array(held) / max(1, np.count_nonzero(rest)), 0.02, 0.98)
    if usual[0] < MANY or not all(
        _likelier(numbers.tally.present[pair], usual) > SURE for pair in np.flatnonzero(pairs)
    ):
        return
    span = f"1 to {ids[-1]} in place of 0 to {ids[-2]}"
    message = f"Masks whose numbers seem to be one too high ({span}): {np.count_nonzero(pairs)}."
    advice = "Look at them. " + FIXED + "takes one off."
    yield numbers.problem("ids_off_by_one", ERROR, pairs, message, advice)


def _likelier(present: np.ndarray, usual: np.ndarray) -> float:
    """By how much the numbers of a mask, `present` bit by bit, are likelier to be one too high than to be right, where
    `usual` is the share of masks that hold each; the logarithm of the ratio."""
    seen = np.unpackbits(present).astype(bool)[:IGNORE_INDEX]
    back = np.append(seen[1:], False)
    yes, no = np.log(usual), np.log(1 - usual)
    return float(np.where(back, yes, no).sum() - np.where(seen, yes, no).sum())


def _lonely(numbers: Numbers) -> Iterator[Problem]:
    """Numbers far from all others, in very few masks."""
    lonely = lonely_ids(numbers)
    if lonely:
        pairs = np.logical_or.reduce([numbers.holding(number) for number in lonely])
        named = ", ".join(map(str, lonely))
        message = f"Numbers far above the others, in {np.count_nonzero(pairs)} of the masks: {named}."
        advice = "Look whether they are meant. " + FIXED + "makes them 255, which is ignored."
        yield numbers.problem("lonely_ids", ERROR, pairs, message, advice)


def lonely_ids(numbers: Numbers) -> list[int]:
    """Numbers above a gap, over an otherwise gapless row, that no more than ALONE of the masks hold."""
    total = int(np.count_nonzero(numbers.used))
    few = max(1, ALONE * total)
    held = {number: int(np.count_nonzero(numbers.holding(number))) for number in numbers.ids}
    ids, lonely = list(numbers.ids), []
    while len(ids) > 2 and held[ids[-1]] <= few and ids[-1] > ids[-2] + 1:
        lonely.insert(0, ids.pop())
    gapless = bool(ids) and ids[-1] - ids[0] + 1 <= len(ids) / MANY
    return lonely if gapless and total >= JUDGED and all(held[number] > few for number in ids[:2]) else []


def _from_one(numbers: Numbers) -> Iterator[Problem]:
    if len(numbers.ids) > 1 and numbers.ids[0] == 1:
        message = f"The numbers begin with 1 (they go to {numbers.ids[-1]}); most programs count classes from 0."
        advice = INIT + "writes what each number means, and nothing has to be changed. " + FIXED + "takes one off."
        yield numbers.problem("ids_from_one", WARNING, numbers.used, message, advice)


def _gaps(numbers: Numbers) -> Iterator[Problem]:
    lonely = set(lonely_ids(numbers))
    ids = [number for number in numbers.ids if number not in lonely]
    missing = sorted(set(range(ids[0], ids[-1])) - set(ids)) if len(ids) > 1 else []
    if missing:
        pairs = np.logical_or.reduce([numbers.holding(number) for number in ids if number > missing[0]])
        message = f"Numbers that no mask holds, between those that occur: {ranges(missing)}."
        advice = INIT + "makes classes of those that occur. " + FIXED + "writes 0, 1, 2 and so on."
        yield numbers.problem("id_gaps", WARNING, pairs, message, advice)


def strange_numbers(numbers: Numbers, problems: list[Problem]) -> set[int]:
    """Numbers that are themselves a mistake, by the problems found."""
    kinds = {each.kind for each in problems}
    strange = set(lonely_ids(numbers)) if "lonely_ids" in kinds else set()
    return strange | ({numbers.ids[-1]} if "ids_off_by_one" in kinds else set())


def ranges(numbers: list[int]) -> str:
    """3, 7-9, 12 for the numbers 3, 7, 8, 9, 12."""
    runs = np.split(np.array(numbers), np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
