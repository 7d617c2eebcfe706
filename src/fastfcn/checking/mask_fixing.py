"""Masks as they should be: numbers from 0 on, of one kind, in files without loss."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from fastfcn.checking.color_problems import palettes_differ, slips
from fastfcn.checking.deblurring import settle
from fastfcn.checking.flags import Sign
from fastfcn.checking.mask_reading import Color
from fastfcn.checking.survey import Survey
from fastfcn.checking.value_problems import Numbers, lonely_ids
from fastfcn.checking.values import color_at
from fastfcn.data.images import opened
from fastfcn.data.masks import read_mask
from fastfcn.utils.types import IGNORE_INDEX

RENUMBERED = {"binary_255", "stretched_ids", "ids_from_one", "id_gaps", "lonely_ids"}
DOUBTFUL = Sign.MASK_LOSSY | Sign.MASK_BLURRED
REWRITTEN = DOUBTFUL | Sign.MASK_16_BIT | Sign.MASK_FRAMES | Sign.MASK_TRANSPARENT


class UnmendableError(Exception):
    """Why a mask is left out."""


@dataclass
class MaskPlan:
    """What is to be done with masks: `numbers` says what each number becomes, `colors` the number of each colour.

    `shifted`, `binary` and `repainted` are the pairs of masks whose numbers are one too high, that use 255 for 1, and
    that have a palette of their own. Masks that are not `readable`, because nobody can know which of their many colours
    are classes, stay as they are.
    """

    kind: str
    real: np.ndarray
    numbers: np.ndarray = field(default_factory=lambda: np.arange(256, dtype=np.uint8))
    colors: dict[Color, int] = field(default_factory=dict)
    palette: list[int] = field(default_factory=list)
    shifted: frozenset[int] = frozenset()
    binary: frozenset[int] = frozenset()
    repainted: frozenset[int] = frozenset()
    readable: bool = True


def plan_masks(survey: Survey) -> MaskPlan:
    """What the problems that were found ask for."""
    kinds = {each.kind for each in survey.problems}
    values = [each.value for each in survey.values]
    real = np.array([[value] if isinstance(value, int) else value for value in values], np.int16)
    plan = MaskPlan(survey.labels_kind, real)
    if "too_many_values" in kinds:
        plan.readable = False
    elif survey.labels_kind == "color":
        slip = slips(survey.values)
        kept = [value for value in values if isinstance(value, tuple) and value not in slip]
        plan.colors = {color: number for number, color in enumerate(kept)}
        plan.colors |= {rare: plan.colors[common] for rare, common in slip.items() if common in plan.colors}
        plan.palette = [channel for color in kept for channel in color]
    elif kinds & RENUMBERED:
        plan.numbers = _renumbering(survey, kinds)
    if survey.palette and survey.labels_kind == "index":
        plan.colors = {color: number for number, color in survey.palette.items()}
    plan.shifted = _pairs(survey, "ids_off_by_one")
    plan.binary = _pairs(survey, "some_binary_masks")
    if "palettes_differ" in kinds:
        plan.repainted = frozenset(np.flatnonzero(palettes_differ(survey.tally)[0]).tolist())
    return plan


def _renumbering(survey: Survey, kinds: set[str]) -> np.ndarray:
    """0, 1, 2 and so on for the numbers that occur; 255 stays unless it is a class."""
    table = np.arange(256, dtype=np.uint8)
    lonely = lonely_ids(Numbers(survey.found, survey.tally, survey.values, frozenset()))
    used = [each.value for each in survey.values if isinstance(each.value, int)]
    classes = [value for value in used if value != IGNORE_INDEX or kinds & {"binary_255", "stretched_ids"}]
    kept = [value for value in classes if value not in lonely]
    table[kept] = np.arange(len(kept))
    table[lonely] = IGNORE_INDEX
    return table


def _pairs(survey: Survey, kind: str) -> frozenset[int]:
    """The pairs of whose masks a problem speaks."""
    named = {name for problem in survey.problems if problem.kind == kind for name in problem.files}
    if not named:
        return frozenset()
    paths = (survey.found.contents.files.path(number) for number in survey.found.masks)
    return frozenset(pair for pair, path in enumerate(paths) if path in named)


def mended_mask(path: Path, pair: int, signs: Sign, plan: MaskPlan) -> tuple[Image.Image, list[str]] | None:
    """The mask of a pair as it should be and what was changed, or None where nothing has to be.

    Raises UnmendableError where that cannot be said.
    """
    changes: list[str] = []
    if not plan.readable:
        return None
    if plan.kind == "color":
        return Image.fromarray(_of_colors(path, signs, plan, changes)), changes
    moved = bool(signs & Sign.MASK_COLORED) or pair in plan.repainted
    label = _of_palette(path, plan, changes) if moved else _of_numbers(path, pair, signs, plan, changes)
    if not changes and signs & REWRITTEN:
        changes.append("written as 8 bits, one frame")
    return (Image.fromarray(label), changes) if changes else None


def _of_numbers(path: Path, pair: int, signs: Sign, plan: MaskPlan, changes: list[str]) -> np.ndarray:
    values = read_mask(path, "index")
    if signs & DOUBTFUL:
        before = values
        values = plan.real[settle(values[..., None], plan.real), 0].astype(np.uint8)
        changes.append(f"{np.count_nonzero(before != values)} stray pixels took a real value")
    table = plan.numbers
    if pair in plan.shifted:
        table = np.where(np.arange(256) == IGNORE_INDEX, IGNORE_INDEX, np.arange(-1, 255)).astype(np.uint8)
    if pair in plan.binary:
        if set(plan.real[:, 0].tolist()) - {0, 1, IGNORE_INDEX}:
            raise UnmendableError("0 and 255 among masks of other classes: which class 255 stands for cannot be known")
        table = table.copy()
        table[IGNORE_INDEX] = 1
    mended = table[values]
    if renamed := [value for value in np.unique(values).tolist() if table[value] != value]:
        changes.append("numbers changed: " + ", ".join(f"{value} to {table[value]}" for value in renamed[:8]))
    return mended


def _of_palette(path: Path, plan: MaskPlan, changes: list[str]) -> np.ndarray:
    """The numbers that the colours of a mask have in the other masks' palette."""
    if not plan.colors:
        raise UnmendableError("a mask of colours among masks of numbers that have no palette")
    changes.append("numbers by the palette of the other masks")
    return plan.numbers[_numbers_of(read_mask(path, "color"), plan.colors)]


def _of_colors(path: Path, signs: Sign, plan: MaskPlan, changes: list[str]) -> np.ndarray:
    if not signs & (Sign.MASK_COLORED | Sign.MASK_GRAY_COLORS | Sign.MASK_PALETTE):
        raise UnmendableError("a mask of numbers without a palette among masks of colours")
    packed = read_mask(path, "color")
    changes.append("colours written as numbers with a palette")
    if signs & DOUBTFUL:
        pixels = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=2)
        real = np.array(list(plan.colors), np.int16)
        changes.append("stray colours replaced by real ones")
        return np.array(list(plan.colors.values()), np.uint8)[settle(pixels, real)]
    return _numbers_of(packed, plan.colors)


def _numbers_of(packed: np.ndarray, colors: dict[Color, int]) -> np.ndarray:
    found, places = np.unique(packed, return_inverse=True)
    known = {red << 16 | green << 8 | blue: number for (red, green, blue), number in colors.items()}
    if missing := [int(color) for color in found if int(color) not in known]:
        shown = [missing[0] >> 16, missing[0] >> 8 & 255, missing[0] & 255]
        raise UnmendableError(f"the colour {shown} is not among those of the other masks")
    return np.array([known[int(color)] for color in found], np.uint8)[places.reshape(packed.shape)]


def mended_palette(path: Path, pair: int, signs: Sign, plan: MaskPlan) -> list[int] | None:
    """The palette of the mended mask; None where it has none."""
    if plan.kind == "color":
        return plan.palette
    colors = {number: color for color, number in plan.colors.items()}
    if signs & Sign.MASK_PALETTE and pair not in plan.repainted:
        with opened(path) as image:
            stored = bytes(image.getpalette("RGB") or b"")
        colors = {number: color_at(stored, number) for number in range(len(stored) // 3)}
    elif pair not in plan.repainted and not signs & Sign.MASK_COLORED:
        return None
    palette = [0] * 768
    for number, color in sorted(colors.items(), reverse=True):  # low numbers, which are in use, have the last word
        place = 3 * int(plan.numbers[number])
        palette[place : place + 3] = color
    return palette
