"""Statistics of all pairs (about a hundred bytes per pair), and the mask values they contain."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from fastfcn.checking.bands import BandStatistics, InspectedBands
from fastfcn.checking.images import CELLS, GRID, ImageInfo
from fastfcn.checking.masks import Color, MaskInfo
from fastfcn.checking.problem import UNUSABLE_IMAGE, UNUSABLE_MASK, Flag
from fastfcn.utils.sizes import Size

SLOTS = 256  # distinct ids, or distinct colors
MORE = SLOTS - 1  # the slot shared by all further colors
PALETTES = 255
NEAR = 24  # maximum difference per channel at which colors of a blurred mask are treated as one


class PairInfo(NamedTuple):
    """The results of inspecting one pair."""

    image: ImageInfo
    mask: MaskInfo
    bands: InspectedBands | None = None

    @property
    def flags(self) -> Flag:
        """The flags of image and mask, and those of their combination."""
        flags = self.image.flags | self.mask.flags
        if flags & (UNUSABLE_IMAGE | UNUSABLE_MASK & ~Flag.MASK_IDS_TOO_LARGE) or self.image.upright == self.mask.size:
            return flags
        rotated = flags & Flag.IMAGE_ROTATED and self.image.stored == self.mask.size
        return flags | (Flag.EXIF_MASK_MISMATCH if rotated else Flag.SIZES_DIFFER)


class ValueTable:
    """Pixels per value over all masks, int64 (SLOTS,), and masks that contain it per split, (splits, SLOTS)."""

    def __init__(self, splits: int):
        self.pixels = np.zeros(SLOTS, np.int64)
        self.masks = np.zeros((splits, SLOTS), np.int64)


@dataclass
class Statistics:
    """Arrays with one entry per pair, and tables of the values in all masks.

    `present` has one bit per value that a mask contains: its id, or the index of its color in `colors`. `tables` are
    kept separately for ids, ids stored as gray RGB, and colors, each for sharp, for blurred and for lossy masks; of the
    last two, flat areas are counted.
    """

    count: int
    splits: int
    flags: np.ndarray = field(init=False)
    digests: np.ndarray = field(init=False)
    fingerprints: np.ndarray = field(init=False)
    gradients: np.ndarray = field(init=False)
    present: np.ndarray = field(init=False)
    palette_of: np.ndarray = field(init=False)
    sizes: dict[Size, int] = field(default_factory=dict)
    colors: dict[Color, int] = field(default_factory=dict)
    palettes: dict[bytes, int] = field(default_factory=dict)
    tables: dict[tuple[Flag, Flag], ValueTable] = field(default_factory=dict)
    bands: BandStatistics | None = None  # of images of bands
    failures: dict[int, tuple[str, str]] = field(default_factory=dict)  # pair -> reasons (image, mask)

    def __post_init__(self) -> None:
        self.flags = np.zeros(self.count, np.uint32)
        self.digests = np.zeros(self.count, np.uint64)
        self.fingerprints = np.full((self.count, CELLS * CELLS), -128, np.int8)
        self.gradients = np.zeros((self.count, GRID), np.uint8)
        self.present = np.zeros((self.count, SLOTS // 8), np.uint8)
        self.palette_of = np.zeros(self.count, np.uint8)

    def add(self, pair: int, split: int, info: PairInfo) -> None:
        """Add the results of one pair."""
        image, mask, found = info
        self.flags[pair] = int(info.flags)
        self.digests[pair] = image.digest
        self.fingerprints[pair] = image.fingerprint
        self.gradients[pair] = image.gradients
        if found and self.bands is not None:
            self.bands.add(pair, found)
        if image.failure or mask.failure:
            self.failures[pair] = (image.failure, mask.failure)
        if not image.flags & UNUSABLE_IMAGE:
            self.sizes[image.upright] = self.sizes.get(image.upright, 0) + 1
        if mask.palette:
            if mask.palette not in self.palettes and len(self.palettes) < PALETTES:
                self.palettes[mask.palette] = len(self.palettes)
            self.palette_of[pair] = self.palettes.get(mask.palette, PALETTES)
        if mask.counts is not None:
            self._add_values(pair, split, mask.counts, mask.flags)
        elif mask.colors:
            self._add_values(pair, split, self._color_counts(mask), mask.flags)

    def has(self, flags: Flag) -> np.ndarray:
        """Which pairs have at least one of `flags`; bool (pairs,)."""
        return self.flags & np.uint32(int(flags)) != 0

    def holds(self, value: int) -> np.ndarray:
        """Which masks contain a value; bool (pairs,)."""
        return self.present[:, value >> 3] >> (7 - (value & 7)) & 1 != 0

    def _add_values(self, pair: int, split: int, counts: np.ndarray, flags: Flag) -> None:
        kind = flags & (Flag.MASK_GRAY_COLORS | Flag.MASK_COLORED)
        table = self.tables.setdefault(
            (kind, flags & Flag.MASK_LOSSY or flags & Flag.MASK_BLURRED), ValueTable(self.splits)
        )
        table.pixels += counts
        table.masks[split] += counts > 0
        self.present[pair] = np.packbits(counts > 0)

    def _color_counts(self, mask: MaskInfo) -> np.ndarray:
        """Count pixels by the index of their color in `colors`.

        The colors of an unreliable mask vary from pixel to pixel, so they are counted as a known color close to them.
        """
        counts, unreliable = np.zeros(SLOTS, np.int64), bool(mask.flags & (Flag.MASK_BLURRED | Flag.MASK_LOSSY))
        for color, pixels in sorted((mask.colors or {}).items(), key=lambda item: (-item[1], item[0])):
            if color not in self.colors and unreliable and (near := self._close_color(color)):
                color = near
            if color not in self.colors and len(self.colors) < MORE:
                self.colors[color] = len(self.colors)
            counts[self.colors.get(color, MORE)] += pixels
        return counts

    def _close_color(self, color: Color) -> Color | None:
        """A color in the table that is close to this one."""
        return next((known for known in self.colors if distance(known, color) <= NEAR), None)


def distance(one: Color, other: Color) -> int:
    """The largest difference per channel."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


IDS, GRAYS, COLORS = Flag(0), Flag.MASK_GRAY_COLORS, Flag.MASK_COLORED


@dataclass(frozen=True)
class ValueCount:
    """A value in the masks: an id, or a color (red, green, blue) if `labels_kind` is "color".

    `pixels` over all masks; `images` that contain it, in total and per split. Stray values (of blurred edges or
    JPEG) are not included; 255 is.
    """

    value: int | Color
    pixels: int
    images: int
    by_split: dict[str, int]


def labels_kind(stats: Statistics) -> Literal["index", "color"]:
    """Whether most masks contain ids or colors; masks of gray colors are not counted."""
    usable = ~stats.has(UNUSABLE_MASK | Flag.MASK_IS_PHOTO)
    colored = np.count_nonzero(usable & stats.has(Flag.MASK_COLORED))
    numbers = np.count_nonzero(usable & ~stats.has(Flag.MASK_COLORED | Flag.MASK_GRAY_COLORS))
    return "color" if colored > numbers else "index"


def value_counts(stats: Statistics, splits: list[str]) -> list[ValueCount]:
    """The values of all masks, ascending.

    Of blurred masks, the values of flat areas; of lossy masks, whose flat areas vary, only those that are not close to
    another one.
    """
    kind = labels_kind(stats)
    entries: dict[int | Color, ValueCount] = {}
    for reliability in (Flag(0), Flag.MASK_BLURRED, Flag.MASK_LOSSY):
        counts: list[ValueCount] = []
        for table_kind in (COLORS, GRAYS) if kind == "color" else (IDS, GRAYS):
            if table := stats.tables.get((table_kind, reliability)):
                table = _merged(table) if reliability == Flag.MASK_LOSSY and table_kind != COLORS else table
                counts += _listed(table, stats, table_kind, kind, splits)
        certain = list(entries)
        for entry in counts:
            if entry.value in entries:
                entries[entry.value] = _sum(entries[entry.value], entry)
            elif reliability != Flag.MASK_LOSSY or not any(_close(entry.value, value) for value in certain):
                entries[entry.value] = entry
    return sorted(entries.values(), key=lambda entry: entry.value)


def _close(one: int | Color, other: int | Color) -> bool:
    pair = (value if isinstance(value, tuple) else (value, value, value) for value in (one, other))
    return distance(*pair) <= NEAR


def _listed(table: ValueTable, stats: Statistics, stored: Flag, kind: str, splits: list[str]) -> list[ValueCount]:
    names: list[int | Color] = list(stats.colors) if stored == COLORS else list(range(SLOTS))
    if stored == GRAYS and kind == "color":
        names = [(value, value, value) for value in range(SLOTS)]
    slots = [slot for slot in np.flatnonzero(table.pixels).tolist() if stored != COLORS or slot != MORE]
    return [
        ValueCount(
            names[slot],
            int(table.pixels[slot]),
            int(table.masks[:, slot].sum()),
            {split: int(count) for split, count in zip(splits, table.masks[:, slot], strict=True)},
        )
        for slot in slots
    ]


def _sum(one: ValueCount, other: ValueCount) -> ValueCount:
    by_split = {split: count + other.by_split[split] for split, count in one.by_split.items()}
    return ValueCount(one.value, one.pixels + other.pixels, one.images + other.images, by_split)


def _merged(table: ValueTable) -> ValueTable:
    """Merge runs of ids where one has nearly all pixels, such as 0, 1, 2 left by JPEG compression, into that id."""
    merged = ValueTable(len(table.masks))
    present = np.flatnonzero(table.pixels)
    runs = np.split(present, np.flatnonzero(np.diff(present) > 4) + 1)
    for run in runs:
        strongest = run[np.argmax(table.pixels[run])]
        dominant = table.pixels[strongest] > 0.8 * table.pixels[run].sum()
        kept = run[run == strongest] if dominant else run
        merged.pixels[kept], merged.masks[:, kept] = table.pixels[kept], table.masks[:, kept]
        if dominant:
            merged.pixels[strongest] = table.pixels[run].sum()
    return merged


def main_palette(stats: Statistics, values: list[ValueCount]) -> dict[int, Color] | None:
    """The colors of the ids in use, from the most common palette; None if no mask has a palette."""
    which = stats.palette_of[stats.has(Flag.MASK_PALETTE)]
    if not len(which) or not stats.palettes:
        return None
    number = int(np.bincount(which, minlength=256)[: len(stats.palettes)].argmax())
    palette = palette_bytes(stats, number)
    return {entry.value: color_at(palette, entry.value) for entry in values if isinstance(entry.value, int)}


def palette_bytes(stats: Statistics, number: int) -> bytes:
    return list(stats.palettes)[number]


def color_at(palette: bytes, index: int) -> Color:
    """The color of an id; black if the palette is too short."""
    entry = palette[3 * index : 3 * index + 3]
    return (entry[0], entry[1], entry[2]) if len(entry) == 3 else (0, 0, 0)
