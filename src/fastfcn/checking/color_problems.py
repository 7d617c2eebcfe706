"""Problems of how masks say their values: as numbers, by a palette, or as colours; several ways in one folder."""

from collections.abc import Iterator

import numpy as np

from fastfcn.checking.file_problems import ERROR, FIXED, WARNING, pair_files
from fastfcn.checking.flags import NO_MASK, Sign
from fastfcn.checking.layouts import Found
from fastfcn.checking.mask_reading import Color
from fastfcn.checking.problem import Problem
from fastfcn.checking.statistics import MORE, Tally
from fastfcn.checking.value_problems import INIT
from fastfcn.checking.values import ValueCount, color_at, palette_bytes

CLOSE = 10  # difference of a channel up to which one of two colours may be a slip of the other
SLIP = 0.05  # share of the other's pixels up to which it is
SHOWN = 8


def color_problems(found: Found, tally: Tally, kind: str, values: list[ValueCount]) -> list[Problem]:
    """What is to be said about colours and palettes, where masks of `kind` ("index" or "color") are the rule."""
    rules = [*_other_kind(found, tally, kind), *_palettes(found, tally)]
    if kind == "color":
        too_many = list(_too_many(found, tally))
        rules += too_many or [*_colored(found, tally, values), *_slips(found, tally, values)]
    return rules


def _other_kind(found: Found, tally: Tally, kind: str) -> Iterator[Problem]:
    """Masks of colours among masks of numbers, or the other way round."""
    usable = ~tally.has(NO_MASK | Sign.MASK_PICTURE)
    colored, grays = tally.has(Sign.MASK_COLORED), tally.has(Sign.MASK_GRAY_COLORS)
    pairs = usable & (colored if kind == "index" else ~colored & ~grays)
    if pairs.any():
        what = "colours among masks of numbers" if kind == "index" else "numbers among masks of colours"
        advice = (
            "Make all masks in one way. " + FIXED + "translates them by the palette of the others, if there is one."
        )
        yield _problem(found, "mask_kinds_differ", ERROR, pairs, f"Masks of {what}: {np.count_nonzero(pairs)}.", advice)


def _palettes(found: Found, tally: Tally) -> Iterator[Problem]:
    """Palette masks: the numbers count; but do the same numbers have the same colours everywhere?"""
    pairs = tally.has(Sign.MASK_PALETTE)
    if not pairs.any():
        return
    moved, other = palettes_differ(tally)
    if moved.any():
        message = f"Palette masks in which a colour has another number than in most: {np.count_nonzero(moved)}."
        advice = "A program that chooses its own palette for each file wrote them. " + FIXED + "goes by the colours."
        yield _problem(found, "palettes_differ", ERROR, moved, message, advice)
    elif other.any():
        message = f"Palette masks in which a number has another colour than in most: {np.count_nonzero(other)}."
        advice = "The numbers count, not the colours. Look whether they mean the same in all files."
        yield _problem(found, "palettes_vary", WARNING, other, message, advice)
    if others := np.count_nonzero(~pairs & ~tally.has(NO_MASK | Sign.MASK_COLORED)):
        fewer = pairs if pairs.sum() <= others else ~pairs & ~tally.has(NO_MASK | Sign.MASK_COLORED)
        message = f"Some masks have a palette ({pairs.sum()}) and some are grey ({others})."
        advice = "The numbers in them count, not the colours. Look whether they mean the same in both."
        yield _problem(found, "palette_and_grey", WARNING, fewer, message, advice)


def palettes_differ(tally: Tally) -> tuple[np.ndarray, np.ndarray]:
    """Palette masks with a colour that has another number in the masks of more common palettes, which shows that
    colours are what counts; and those with a number of another colour. Both bool (pairs,)."""
    pairs = tally.has(Sign.MASK_PALETTE)
    moved, other = np.zeros(tally.count, bool), np.zeros(tally.count, bool)
    masks = np.bincount(tally.palette_of[pairs], minlength=256)[: len(tally.palettes)]
    numbers: dict[Color, int] = {}
    colors: dict[int, Color] = {}
    for which in np.argsort(-masks, kind="stable").tolist():
        those = pairs & (tally.palette_of == which)
        palette = palette_bytes(tally, which)
        used = np.unpackbits(np.bitwise_or.reduce(tally.present[those], axis=0, initial=0))
        for number in np.flatnonzero(used).tolist():
            color = color_at(palette, number)
            if numbers.setdefault(color, number) != number:
                moved |= those & tally.holds(number)
            if colors.setdefault(number, color) != color:
                other |= those & tally.holds(number)
    return moved, other


def _colored(found: Found, tally: Tally, values: list[ValueCount]) -> Iterator[Problem]:
    pairs = tally.has(Sign.MASK_COLORED)
    listed = ", ".join(str(list(each.value)) for each in values[:SHOWN] if isinstance(each.value, tuple))
    more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    message = f"The masks say their classes by colour; colours found: {len(values)} ({listed}{more})."
    advice = INIT + "writes them down as they are. " + FIXED + "writes palette masks of the same colours instead."
    yield _problem(found, "color_masks", WARNING, pairs, message, advice)


def slips(values: list[ValueCount]) -> dict[Color, Color]:
    """Rare colours that are nearly those of a class: each with that one."""
    found: dict[Color, Color] = {}
    for rare in values:
        for common in values:
            one, other = rare.value, common.value
            if not isinstance(one, tuple) or not isinstance(other, tuple) or one == other:
                continue
            near = max(abs(a - b) for a, b in zip(one, other, strict=True)) <= CLOSE
            if near and rare.pixels <= SLIP * common.pixels:
                found[one] = other
    return found


def _slips(found: Found, tally: Tally, values: list[ValueCount]) -> Iterator[Problem]:
    rare = slips(values)
    if rare:
        slots = [tally.colors[color] for color in rare if color in tally.colors]
        colored = tally.has(Sign.MASK_COLORED)
        pairs = colored & np.logical_or.reduce([tally.holds(slot) for slot in slots] or [np.zeros(tally.count, bool)])
        listed = ", ".join(f"{list(one)} beside {list(other)}" for one, other in list(rare.items())[:3])
        message = f"Rare colours that are nearly another's: {listed}."
        yield _problem(found, "near_colors", ERROR, pairs, message, FIXED + "takes each for the more common one.")


def _too_many(found: Found, tally: Tally) -> Iterator[Problem]:
    pairs = tally.has(Sign.MASK_COLORED)
    if (pairs & tally.holds(MORE)).any():
        message = f"The masks have more than {MORE - 1} colours; a class map has at most 254 classes."
        advice = "Colours that tell instances apart have to be made colours of classes first."
        yield _problem(found, "too_many_values", ERROR, pairs, message, advice)


def _problem(found: Found, kind: str, severity: str, pairs: np.ndarray, message: str, advice: str) -> Problem:
    numbers = np.flatnonzero(pairs).tolist()
    return Problem(kind, severity, max(len(numbers), 1), pair_files(found, numbers, "mask"), message, advice)
