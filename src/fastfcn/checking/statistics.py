"""What was seen in all pairs, in about a hundred bytes for each."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from fastfcn.checking.flags import NO_IMAGE, NO_MASK, Sign
from fastfcn.checking.image_reading import CELLS, ImageSeen
from fastfcn.checking.mask_reading import Color, MaskSeen
from fastfcn.utils.types import Size

SLOTS = 256  # numbers, or colours, that are told apart
MORE = SLOTS - 1  # the slot of all further colours
PALETTES = 255
NEAR = 24  # difference of a channel up to which colours of a blurred mask are taken for one


class PairSeen(NamedTuple):
    """What one pair is."""

    image: ImageSeen
    mask: MaskSeen

    @property
    def signs(self) -> Sign:
        """Those of both, and of both together."""
        signs = self.image.signs | self.mask.signs
        if signs & (NO_IMAGE | NO_MASK & ~Sign.MASK_BIG_NUMBERS) or self.image.upright == self.mask.size:
            return signs
        turned = signs & Sign.IMAGE_TURNED and self.image.stored == self.mask.size
        return signs | (Sign.TURNED_AGAINST_MASK if turned else Sign.SIZES_DIFFER)


class ValueTable:
    """Pixels of each value over all masks, int64 (SLOTS,), and masks that hold it in each split (splits, SLOTS)."""

    def __init__(self, splits: int):
        self.pixels = np.zeros(SLOTS, np.int64)
        self.masks = np.zeros((splits, SLOTS), np.int64)


@dataclass
class Tally:
    """Arrays with an entry for every pair, and tables of values.

    `present` has a bit for each value that a mask holds: of its number, or of its colour's place in `colors`.
    `tables` are kept apart for masks of numbers, of numbers stored as grey colours and of colours, and for those that
    can be relied on and those that are blurred or stored with loss.
    """

    count: int
    splits: int
    signs: np.ndarray = field(init=False)
    digests: np.ndarray = field(init=False)
    fingerprints: np.ndarray = field(init=False)
    present: np.ndarray = field(init=False)
    palette_of: np.ndarray = field(init=False)
    sizes: dict[Size, int] = field(default_factory=dict)
    colors: dict[Color, int] = field(default_factory=dict)
    palettes: dict[bytes, int] = field(default_factory=dict)
    tables: dict[tuple[Sign, bool], ValueTable] = field(default_factory=dict)
    troubles: dict[int, tuple[str, str]] = field(default_factory=dict)  # pair -> of its image and its mask

    def __post_init__(self) -> None:
        self.signs = np.zeros(self.count, np.uint32)
        self.digests = np.zeros(self.count, np.uint64)
        self.fingerprints = np.full((self.count, CELLS * CELLS), -128, np.int8)
        self.present = np.zeros((self.count, SLOTS // 8), np.uint8)
        self.palette_of = np.zeros(self.count, np.uint8)

    def add(self, pair: int, split: int, seen: PairSeen) -> None:
        """Note what was seen in one pair."""
        image, mask = seen
        self.signs[pair] = int(seen.signs)
        self.digests[pair] = image.digest
        self.fingerprints[pair] = image.fingerprint
        if image.trouble or mask.trouble:
            self.troubles[pair] = (image.trouble, mask.trouble)
        if not image.signs & NO_IMAGE:
            self.sizes[image.upright] = self.sizes.get(image.upright, 0) + 1
        if mask.palette:
            if mask.palette not in self.palettes and len(self.palettes) < PALETTES:
                self.palettes[mask.palette] = len(self.palettes)
            self.palette_of[pair] = self.palettes.get(mask.palette, PALETTES)
        if mask.counts is not None:
            self._add_values(pair, split, mask.counts, mask.signs)
        elif mask.colors:
            self._add_values(pair, split, self._color_counts(mask), mask.signs)

    def has(self, signs: Sign) -> np.ndarray:
        """Which pairs have any of `signs`; bool (pairs,)."""
        return self.signs & np.uint32(int(signs)) != 0

    def holds(self, value: int) -> np.ndarray:
        """Which masks hold a value; bool (pairs,)."""
        return self.present[:, value >> 3] >> (7 - (value & 7)) & 1 != 0

    def _add_values(self, pair: int, split: int, counts: np.ndarray, signs: Sign) -> None:
        doubtful = bool(signs & (Sign.MASK_BLURRED | Sign.MASK_LOSSY))
        kind = signs & (Sign.MASK_GRAY_COLORS | Sign.MASK_COLORED)
        table = self.tables.setdefault((kind, doubtful), ValueTable(self.splits))
        table.pixels += counts
        table.masks[split] += counts > 0
        self.present[pair] = np.packbits(counts > 0)

    def _color_counts(self, mask: MaskSeen) -> np.ndarray:
        """Pixels by the place of their colour in `colors`. The colours of a doubtful mask vary a little from pixel to
        pixel; they go to the place of one like them."""
        counts, loose = np.zeros(SLOTS, np.int64), bool(mask.signs & (Sign.MASK_BLURRED | Sign.MASK_LOSSY))
        for color, pixels in sorted((mask.colors or {}).items(), key=lambda item: (-item[1], item[0])):
            if color not in self.colors and loose and (near := self._near(color)):
                color = near
            if color not in self.colors and len(self.colors) < MORE:
                self.colors[color] = len(self.colors)
            counts[self.colors.get(color, MORE)] += pixels
        return counts

    def _near(self, color: Color) -> Color | None:
        """A colour in the table that is like this one."""
        return next((known for known in self.colors if distance(known, color) <= NEAR), None)


def distance(one: Color, other: Color) -> int:
    """The largest difference of a channel."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))
