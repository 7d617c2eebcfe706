"""Fix one mask: sharp edges, one kind of values, lossless files; with the areas that every change affects."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from fastfcn.checking.check import FolderReport
from fastfcn.checking.class_folders import ClassFolders, find_class_folders
from fastfcn.checking.consent import AreaChange, area_changes, value_text
from fastfcn.checking.deblurring import deblur
from fastfcn.checking.masks import Color
from fastfcn.checking.problem import Flag
from fastfcn.checking.statistics import color_at
from fastfcn.checking.value_problems import near_colors, outlier_ids, palettes_differ
from fastfcn.data.decoding import open_image
from fastfcn.data.masks import read_mask
from fastfcn.utils.sizes import IGNORE_INDEX, Size

SAME_SHAPE = 0.02  # maximum relative difference of the aspect ratios of a mask that was only resized
DOUBTFUL = Flag.MASK_LOSSY | Flag.MASK_BLURRED
REWRITTEN = DOUBTFUL | Flag.MASK_16_BIT | Flag.MASK_FRAMES | Flag.MASK_TRANSPARENT
COLORS = Flag.MASK_COLORED | Flag.MASK_GRAY_COLORS | Flag.MASK_PALETTE


class UnfixableError(Exception):
    """The reason why a pair cannot be fixed and is left out."""


@dataclass
class MaskPlan:
    """How to fix masks.

    `valid`: the values that are classes, (values, channels). `numbers` maps each id to its new id; `colors` maps colors
    to ids: those of the palette, or, if color masks are converted (`to_ids`), of all colors. `shifted`, `binary` and
    `repainted` are the pairs whose masks have ids that are one too high, use 255 for 1, or have a different palette.
    `folders` are the classes of the masks' folders. Masks stay as they are unless they are `readable`: with too many
    colors, classes are unknown.
    """

    report: FolderReport
    accept: frozenset[str]
    valid: np.ndarray
    numbers: np.ndarray = field(default_factory=lambda: np.arange(256, dtype=np.uint8))
    colors: dict[Color, int] = field(default_factory=dict)
    near: dict[Color, Color] = field(default_factory=dict)
    outliers: frozenset[int] = frozenset()
    shifted: frozenset[int] = frozenset()
    binary: frozenset[int] = frozenset()
    repainted: frozenset[int] = frozenset()
    folders: ClassFolders | None = None
    readable: bool = True
    to_ids: bool = False

    @property
    def colored(self) -> bool:
        return self.report.labels_kind == "color"

    @property
    def palette(self) -> list[int]:
        """The palette of color masks that are converted to ids."""
        flat = [0] * 768
        for color, number in self.colors.items():
            if color not in self.near:
                flat[3 * number : 3 * number + 3] = color
        return flat


def plan_masks(report: FolderReport, accept: frozenset[str]) -> MaskPlan:
    """Decide what may be done with masks, from the problems found; ids are not renumbered yet."""
    kinds = {problem.kind for problem in report.problems}
    values = [entry.value for entry in report.values]
    plan = MaskPlan(report, accept, np.array([[v] if isinstance(v, int) else v for v in values], np.int16))
    plan.readable = "too_many_values" not in kinds and bool(values)
    if plan.colored:
        named = {color: common for color, common in near_colors(report.values).items() if color not in report.names}
        plan.near = {color: common for color, common in named.items() if common not in named}
        kept = [value for value in values if isinstance(value, tuple) and value not in plan.near]
        plan.colors = {color: number for number, color in enumerate(kept)}
        plan.colors |= {rare: plan.colors[common] for rare, common in plan.near.items()}
        plan.to_ids = "ids" in accept and plan.readable and len(kept) <= IGNORE_INDEX
    elif report.palette:
        plan.colors = {color: number for number, color in report.palette.items()}
    if "outlier_ids" in kinds:
        plan.outliers = frozenset(outlier_ids(report.mask_ids))
    plan.shifted = _pairs(report, "ids_off_by_one")
    plan.binary = _pairs(report, "some_binary_masks")
    if "class_folders" in kinds and "folders" in accept:
        plan.folders = find_class_folders(report.mask_ids)
    if "palettes_differ" in kinds:
        plan.repainted = frozenset(np.flatnonzero(palettes_differ(report.stats)[0]).tolist())
    return plan


def _pairs(report: FolderReport, kind: str) -> frozenset[int]:
    """Indices of the pairs whose masks have a problem of this kind."""
    named = {name for problem in report.problems if problem.kind == kind for name in problem.files}
    if not named:
        return frozenset()
    paths = (report.dataset.contents.files.path(number) for number in report.dataset.masks)
    return frozenset(pair for pair, path in enumerate(paths) if path in named)


class MaskFix(NamedTuple):
    """The outcome for one mask.

    `label` is the fixed mask, or None if the file is copied as it is: because nothing has to be changed, or because
    the kinds of change in `declined` were not accepted. `values` are the values in the copy, if they were read; before
    renumbering. `areas` are the areas that `declined` or accepted kinds change.
    """

    label: Image.Image | None = None
    changes: tuple[str, ...] = ()
    declined: tuple[str, ...] = ()
    areas: tuple[AreaChange, ...] = ()
    values: frozenset | None = None


class _Steps:
    """The fixes of one mask: `values` (H, W) ids or packed colors, changed step by step."""

    def __init__(self, plan: MaskPlan, pair: int, flags: Flag, name: str, source: Path):
        self.plan, self.pair, self.flags, self.name, self.source = plan, pair, flags, name, source
        self.changes: list[str] = []
        self.kinds: dict[str, list[tuple[int, int, int]]] = {}  # kind that needs consent -> area changes
        self.values = self._read()
        if flags & DOUBTFUL:
            self._deblur()
        elif plan.colored and plan.near:
            self._replace("near-colors", {_packed(rare): _packed(common) for rare, common in plan.near.items()})
        if not plan.colored:
            self._ids()
        if flags & Flag.MASK_FRAMES:
            self.kinds["frames"] = []
            self.changes.append("only the first frame kept")

    def _read(self) -> np.ndarray:
        plan, colored = self.plan, bool(self.flags & Flag.MASK_COLORED)
        if plan.colored:
            if not self.flags & COLORS:
                raise UnfixableError("mask of ids without a palette, while the other masks contain colors")
            return read_mask(self.source, "color")
        if not colored and self.pair not in plan.repainted:
            return read_mask(self.source, "index")
        if not plan.colors:
            raise UnfixableError("color mask, and the other masks have no palette to convert it with")
        values = _lookup_colors(read_mask(self.source, "color"), plan.colors)
        self.changes.append("ids assigned by the palette of the other masks")
        if not colored:
            self.kinds["palette"] = area_changes(read_mask(self.source, "index"), values, False)
        return values

    def _deblur(self) -> None:
        """Sharpen edges; needs consent if that changes more than edges."""
        lossy, before = bool(self.flags & Flag.MASK_LOSSY), self.values
        if self.flags & Flag.MASK_COLORED and not self.plan.colored:
            return  # colors of a lossy mask that all were those of the palette
        sharp = deblur(_channels(before, self.plan.colored), self.plan.valid, lossy)
        valid = self.plan.valid.astype(np.uint32)
        packed = valid[:, 0] if valid.shape[1] == 1 else valid @ np.array([65536, 256, 1], np.uint32)
        self.values = packed[sharp.indices].astype(before.dtype)
        count = np.count_nonzero(before != self.values)
        self.changes.append(f"{count} pixels of blurred edges set to the value of an adjoining area")
        changed = area_changes(sharp.stored, sharp.indices, True)
        excess = [(int(packed[index]), old, new) for index, old, new in changed if index >= 0]
        if sharp.doubtful.any():
            old, new = before[sharp.doubtful], self.values[sharp.doubtful]
            excess += [(int(v), int((old == v).sum()), 0) for v in np.unique(old)[:3]]
            excess += [(int(v), 0, int((new == v).sum())) for v in np.unique(new)[:3]]
        if excess:
            self.kinds["deblur"] = excess

    def _ids(self) -> None:
        plan, ids = self.plan, range(256)
        if self.pair in plan.shifted:
            self._replace("shift", {value: value - 1 for value in ids if 0 < value < IGNORE_INDEX})
        if self.pair in plan.binary:
            if "binary" in plan.accept and set(plan.valid[:, 0].tolist()) - {0, 1, IGNORE_INDEX}:
                raise UnfixableError("0 and 255 among masks of other classes: the class of 255 is unknown")
            self._replace("binary", {IGNORE_INDEX: 1})
        if plan.folders and self.pair in plan.folders.ids:
            self._replace("folders", {plan.folders.marked: plan.folders.ids[self.pair]})
        if plan.outliers:
            self._replace("outliers", dict.fromkeys(plan.outliers, IGNORE_INDEX))

    def _replace(self, kind: str, table: dict[int, int]) -> None:
        before, after = self.values, self.values.copy()
        present = [int(value) for value in np.unique(before) if int(value) in table]
        for value in present:
            after[before == value] = table[value]
        if present:
            self.kinds[kind] = area_changes(before, after, False)
            pairs = ", ".join(f"{self._text(value)} to {self._text(table[value])}" for value in present[:8])
            self.changes.append(f"{'colors' if self.plan.colored else 'ids'} changed: {pairs}")
            self.values = after

    def resize(self, size: Size) -> None:
        """Resize to (height, width). Raises UnfixableError if the aspect ratio differs."""
        (old_height, old_width), (height, width) = self.values.shape, size
        shape = (old_height / old_width) / (height / width)
        if not 1 - SAME_SHAPE <= shape <= 1 + SAME_SHAPE:
            size_text = f"{old_height} x {old_width} and its image {height} x {width}"
            raise UnfixableError(f"sizes_differ: the mask is {size_text} (height x width)")
        rows = np.minimum((np.arange(height) + 0.5) * old_height / height, old_height - 1).astype(int)
        columns = np.minimum((np.arange(width) + 0.5) * old_width / width, old_width - 1).astype(int)
        before, self.values = self.values, self.values[rows][:, columns]
        self.kinds["resize"] = area_changes(before, self.values, False)
        self.changes.append(f"resized from {old_height} x {old_width} to {height} x {width} (nearest neighbor)")

    def areas(self, kinds: tuple[str, ...]) -> tuple[AreaChange, ...]:
        names = self.plan.report.names
        return tuple(
            AreaChange(self.name, kind, value_text(self._value(value), names), old, new)
            for kind in kinds
            for value, old, new in self.kinds[kind]
        )

    def present(self) -> frozenset:
        return frozenset(self._value(int(value)) for value in np.unique(self.values))

    def _value(self, value: int) -> Any:
        return _unpacked(value) if self.plan.colored else value

    def _text(self, value: int) -> str:
        return value_text(self._value(value), {})


def fix_mask(pair: int, plan: MaskPlan, size: Size | None) -> MaskFix:
    """Fix the mask of a pair; `size` is that of its image, if they differ.

    Raises UnfixableError if the right values cannot be determined, and DataError if it cannot be read.
    """
    report, flags = plan.report, Flag(int(plan.report.stats.flags[pair]))
    name = report.dataset.contents.files.path(report.dataset.masks[pair])
    if not plan.readable or not _needs_work(pair, flags, plan, size):
        return MaskFix()
    steps = _Steps(plan, pair, flags, name, report.root / name)
    if size is not None:
        steps.resize(size)
    declined = tuple(kind for kind in steps.kinds if kind not in plan.accept)
    areas = steps.areas(declined or tuple(steps.kinds))
    if declined:
        return MaskFix(None, (), declined, areas)
    label = _encoded(steps)
    if label is None:
        return MaskFix(values=steps.present())
    return MaskFix(label, tuple(steps.changes), (), areas, steps.present())


def _needs_work(pair: int, flags: Flag, plan: MaskPlan, size: Size | None) -> bool:
    """Whether the mask has to be read."""
    if size is not None or flags & REWRITTEN or plan.to_ids or plan.near:
        return True
    if plan.colored:
        return not flags & COLORS
    renumbered = (plan.numbers != np.arange(256)).any()
    special = pair in plan.repainted or pair in plan.shifted or pair in plan.binary or plan.folders
    return bool(flags & Flag.MASK_COLORED or special or renumbered or plan.outliers)


def _encoded(steps: _Steps) -> Image.Image | None:
    """The mask to write, or None if the stored file already is what it should be."""
    plan, flags, values = steps.plan, steps.flags, steps.values
    if plan.colored and not plan.to_ids:
        if not steps.changes and not flags & Flag.MASK_TRANSPARENT:
            return None
        steps.changes = steps.changes or ["transparency dropped"]
        return Image.fromarray(_channels(values, True).astype(np.uint8))
    if plan.colored:
        steps.changes.append("colors converted to ids with a palette")
        label = Image.fromarray(_lookup_colors(values, plan.colors))
        label.putpalette(plan.palette)
        return label
    fixed = plan.numbers[values.astype(np.uint8)]
    if renumbered := [value for value in np.unique(values).tolist() if plan.numbers[value] != value]:
        steps.changes.append("ids changed: " + ", ".join(f"{v} to {plan.numbers[v]}" for v in renumbered[:8]))
    if not steps.changes and flags & REWRITTEN:
        steps.changes.append("written as 8 bits, one frame")
    if not steps.changes:
        return None
    label = Image.fromarray(fixed)
    if palette := _kept_palette(steps):
        label.putpalette(palette)
    return label


def _kept_palette(steps: _Steps) -> list[int] | None:
    """The palette of a fixed mask of ids: its own, or that of the other masks for converted ones; None for none."""
    plan, own = steps.plan, steps.pair not in steps.plan.repainted
    colors = {number: color for color, number in plan.colors.items()}
    if steps.flags & Flag.MASK_PALETTE and own:
        with open_image(steps.source) as image:
            stored = bytes(image.getpalette("RGB") or b"")
        colors = {number: color_at(stored, number) for number in range(len(stored) // 3)}
    elif own and not steps.flags & Flag.MASK_COLORED:
        return None
    palette = [0] * 768
    for number, color in sorted(colors.items(), reverse=True):  # low ids are in use and must not be overwritten
        start = 3 * int(plan.numbers[number])
        palette[start : start + 3] = color
    return palette


def _lookup_colors(packed: np.ndarray, colors: dict[Color, int]) -> np.ndarray:
    packed_colors, positions = np.unique(packed, return_inverse=True)
    known = {_packed(color): number for color, number in colors.items()}
    if missing := [int(color) for color in packed_colors if int(color) not in known]:
        raise UnfixableError(f"no other mask contains its color {list(_unpacked(missing[0]))}")
    return np.array([known[int(color)] for color in packed_colors], np.uint8)[positions.reshape(packed.shape)]


def _channels(values: np.ndarray, colored: bool) -> np.ndarray:
    """(H, W) ids or packed colors as (H, W, channels)."""
    if not colored:
        return values[..., None]
    return np.stack([values >> 16, values >> 8 & 255, values & 255], axis=2)


def _packed(color: Color) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


def _unpacked(value: int) -> Color:
    return value >> 16, value >> 8 & 255, value & 255
