"""Rewrite masks: consecutive ids, one kind of values, lossless files, sharp edges."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from fastfcn.checking.check import FolderReport
from fastfcn.checking.masks import Color, flat
from fastfcn.checking.problem import Flag
from fastfcn.checking.statistics import color_at
from fastfcn.checking.value_problems import MaskIds, near_colors, outlier_ids, palettes_differ
from fastfcn.data.decoding import open_image
from fastfcn.data.masks import read_mask
from fastfcn.utils.sizes import IGNORE_INDEX

TOLERANCE = 24  # maximum difference between a flat pixel and the valid value it is assigned to


def deblur(pixels: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Index into `real` (values, channels) of the valid value that each of `pixels` (H, W, channels) was meant to be.

    Flat areas keep their value. The remaining pixels then take, one ring at a time, the value of the neighbor that is
    closest to their own. So a pixel between classes 0 and 4 becomes 0 or 4, never the 2 that it contains.
    """
    pixels, real = pixels.astype(np.int16), real.astype(np.int16)
    nearest, distance = _nearest(pixels, real)
    apart = np.abs(real[:, None] - real[None]).max(2) + np.eye(len(real), dtype=np.int16) * 999
    sure = distance <= min(TOLERANCE, (int(apart.min()) - 1) // 2)
    brightness = pixels.sum(2)
    if len(real) > 1 and pixels.shape[2] == 1 and apart.min() <= 2:
        sure &= flat(brightness)
    else:
        sure &= flat(nearest)
    return _filled(np.where(sure, nearest, -1), nearest, pixels, real)


def _nearest(pixels: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the nearest valid value, and the largest difference per channel to it."""
    best = np.zeros(pixels.shape[:2], np.int16)
    distance = np.full(pixels.shape[:2], 32767, np.int16)
    for index, value in enumerate(real):
        away = np.abs(pixels - value).max(2)
        closer = away < distance
        best[closer], distance[closer] = index, away[closer]
    return best, distance


def _filled(result: np.ndarray, nearest: np.ndarray, pixels: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Fill the undecided pixels of `result` (-1) from their neighbors."""
    while (result < 0).any() and (result >= 0).any():
        padded = np.pad(result, 1, constant_values=-1)
        around = np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
        rows, columns = np.nonzero((result < 0) & (around >= 0).any(0))
        choices = around[:, rows, columns]
        away = np.abs(pixels[rows, columns][None] - real[choices]).max(2) + (choices < 0) * 1000
        result[rows, columns] = np.take_along_axis(choices, away.argmin(0)[None], 0)[0]
    return np.where(result < 0, nearest, result)


RENUMBERED = {"binary_255", "stretched_ids", "ids_from_one", "id_gaps", "outlier_ids"}
DOUBTFUL = Flag.MASK_LOSSY | Flag.MASK_BLURRED
REWRITTEN = DOUBTFUL | Flag.MASK_16_BIT | Flag.MASK_FRAMES | Flag.MASK_TRANSPARENT


class UnfixableError(Exception):
    """The reason why a pair cannot be fixed and is left out."""


@dataclass
class MaskPlan:
    """How to fix masks: `numbers` maps each id to its new id, `colors` maps each color to its id.

    `shifted`, `binary` and `repainted` are the pairs whose masks have ids that are one too high, use 255 for 1, or have
    a different palette. Masks stay as they are unless they are `readable`: with too many colors, classes are unknown.
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


def plan_masks(report: FolderReport) -> MaskPlan:
    """Decide what to do with masks, from the problems found."""
    kinds = {problem.kind for problem in report.problems}
    values = [entry.value for entry in report.values]
    real = np.array([[value] if isinstance(value, int) else value for value in values], np.int16)
    plan = MaskPlan(report.labels_kind, real)
    if "too_many_values" in kinds:
        plan.readable = False
    elif report.labels_kind == "color":
        replaced = near_colors(report.values)
        kept = [value for value in values if isinstance(value, tuple) and value not in replaced]
        plan.colors = {color: number for number, color in enumerate(kept)}
        plan.colors |= {rare: plan.colors[common] for rare, common in replaced.items() if common in plan.colors}
        plan.palette = [channel for color in kept for channel in color]
    elif kinds & RENUMBERED:
        plan.numbers = _renumbering(report, kinds)
    if report.palette and report.labels_kind == "index":
        plan.colors = {color: number for number, color in report.palette.items()}
    plan.shifted = _pairs(report, "ids_off_by_one")
    plan.binary = _pairs(report, "some_binary_masks")
    if "palettes_differ" in kinds:
        plan.repainted = frozenset(np.flatnonzero(palettes_differ(report.stats)[0]).tolist())
    return plan


def _renumbering(report: FolderReport, kinds: set[str]) -> np.ndarray:
    """Map the ids in use to 0, 1, 2, ...; 255 stays unless it is a class."""
    table = np.arange(256, dtype=np.uint8)
    outliers = outlier_ids(MaskIds(report.dataset, report.stats, report.values, frozenset()))
    used = [entry.value for entry in report.values if isinstance(entry.value, int)]
    classes = [value for value in used if value != IGNORE_INDEX or kinds & {"binary_255", "stretched_ids"}]
    kept = [value for value in classes if value not in outliers]
    table[kept] = np.arange(len(kept))
    table[outliers] = IGNORE_INDEX
    return table


def _pairs(report: FolderReport, kind: str) -> frozenset[int]:
    """Indices of the pairs whose masks have a problem of this kind."""
    named = {name for problem in report.problems if problem.kind == kind for name in problem.files}
    if not named:
        return frozenset()
    paths = (report.dataset.contents.files.path(number) for number in report.dataset.masks)
    return frozenset(pair for pair, path in enumerate(paths) if path in named)


def fixed_mask(path: Path, pair: int, flags: Flag, plan: MaskPlan) -> tuple[Image.Image, list[str]] | None:
    """The fixed mask of a pair and a list of changes, or None if nothing has to be changed.

    Raises UnfixableError if the right values cannot be determined.
    """
    changes: list[str] = []
    if not plan.readable:
        return None
    if plan.kind == "color":
        return Image.fromarray(_colors_to_ids(path, flags, plan, changes)), changes
    moved = bool(flags & Flag.MASK_COLORED) or pair in plan.repainted
    label = _ids_by_palette(path, plan, changes) if moved else _fix_ids(path, pair, flags, plan, changes)
    if not changes and flags & REWRITTEN:
        changes.append("written as 8 bits, one frame")
    return (Image.fromarray(label), changes) if changes else None


def _fix_ids(path: Path, pair: int, flags: Flag, plan: MaskPlan, changes: list[str]) -> np.ndarray:
    values = read_mask(path, "index")
    if flags & DOUBTFUL:
        before = values
        values = plan.real[deblur(values[..., None], plan.real), 0].astype(np.uint8)
        changes.append(f"{np.count_nonzero(before != values)} pixels replaced by the nearest valid value")
    table = plan.numbers
    if pair in plan.shifted:
        table = np.where(np.arange(256) == IGNORE_INDEX, IGNORE_INDEX, np.arange(-1, 255)).astype(np.uint8)
    if pair in plan.binary:
        if set(plan.real[:, 0].tolist()) - {0, 1, IGNORE_INDEX}:
            raise UnfixableError("0 and 255 among masks of other classes: the class of 255 is unknown")
        table = table.copy()
        table[IGNORE_INDEX] = 1
    fixed = table[values]
    if renamed := [value for value in np.unique(values).tolist() if table[value] != value]:
        changes.append("ids changed: " + ", ".join(f"{value} to {table[value]}" for value in renamed[:8]))
    return fixed


def _ids_by_palette(path: Path, plan: MaskPlan, changes: list[str]) -> np.ndarray:
    """The ids of a color mask, from the palette of the other masks."""
    if not plan.colors:
        raise UnfixableError("color mask, and the other masks have no palette to convert it with")
    changes.append("ids assigned by the palette of the other masks")
    return plan.numbers[_lookup_colors(read_mask(path, "color"), plan.colors)]


def _colors_to_ids(path: Path, flags: Flag, plan: MaskPlan, changes: list[str]) -> np.ndarray:
    if not flags & (Flag.MASK_COLORED | Flag.MASK_GRAY_COLORS | Flag.MASK_PALETTE):
        raise UnfixableError("mask of ids without a palette, while the other masks contain colors")
    packed = read_mask(path, "color")
    changes.append("colors converted to ids with a palette")
    if flags & DOUBTFUL:
        pixels = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=2)
        real = np.array(list(plan.colors), np.int16)
        changes.append("blurred colors replaced by valid ones")
        return np.array(list(plan.colors.values()), np.uint8)[deblur(pixels, real)]
    return _lookup_colors(packed, plan.colors)


def _lookup_colors(packed: np.ndarray, colors: dict[Color, int]) -> np.ndarray:
    packed_colors, positions = np.unique(packed, return_inverse=True)
    known = {red << 16 | green << 8 | blue: number for (red, green, blue), number in colors.items()}
    if missing := [int(color) for color in packed_colors if int(color) not in known]:
        shown = [missing[0] >> 16, missing[0] >> 8 & 255, missing[0] & 255]
        raise UnfixableError(f"no other mask contains its color {shown}")
    return np.array([known[int(color)] for color in packed_colors], np.uint8)[positions.reshape(packed.shape)]


def fixed_palette(path: Path, pair: int, flags: Flag, plan: MaskPlan) -> list[int] | None:
    """The palette of the fixed mask, or None."""
    if plan.kind == "color":
        return plan.palette
    colors = {number: color for color, number in plan.colors.items()}
    if flags & Flag.MASK_PALETTE and pair not in plan.repainted:
        with open_image(path) as image:
            stored = bytes(image.getpalette("RGB") or b"")
        colors = {number: color_at(stored, number) for number in range(len(stored) // 3)}
    elif pair not in plan.repainted and not flags & Flag.MASK_COLORED:
        return None
    palette = [0] * 768
    for number, color in sorted(colors.items(), reverse=True):  # low ids are in use and must not be overwritten
        start = 3 * int(plan.numbers[number])
        palette[start : start + 3] = color
    return palette
