"""The values of the masks: which there are, and whether they are numbers or colours."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fastfcn.checking.flags import NO_MASK, Sign
from fastfcn.checking.mask_reading import Color
from fastfcn.checking.statistics import MORE, SLOTS, Tally, ValueTable

NUMBERS, GRAYS, COLORS = Sign(0), Sign.MASK_GRAY_COLORS, Sign.MASK_COLORED


@dataclass(frozen=True)
class ValueCount:
    """A value of the masks: a number, or a colour (red, green, blue) where `labels_kind` is "color".

    `pixels` over all masks; `images` that hold it, and those of each split. Stray values (of blurred edges, of JPEG)
    are not among them; 255 is, where it occurs.
    """

    value: int | Color
    pixels: int
    images: int
    by_split: dict[str, int]


def labels_kind(tally: Tally) -> Literal["index", "color"]:
    """Whether most masks, those that only hold greys aside, are of numbers or of colours."""
    usable = ~tally.has(NO_MASK | Sign.MASK_PICTURE)
    colored = np.count_nonzero(usable & tally.has(Sign.MASK_COLORED))
    numbers = np.count_nonzero(usable & ~tally.has(Sign.MASK_COLORED | Sign.MASK_GRAY_COLORS))
    return "color" if colored > numbers else "index"


def value_counts(tally: Tally, splits: list[str]) -> list[ValueCount]:
    """The values of all masks, in order; those of doubtful masks only where there are no others."""
    kind = labels_kind(tally)
    wanted = (COLORS, GRAYS) if kind == "color" else (NUMBERS, GRAYS)
    for doubtful in (False, True):
        found: dict[int | Color, ValueCount] = {}
        for table_kind in wanted:
            if table := tally.tables.get((table_kind, doubtful)):
                table = _merged(table) if doubtful and table_kind != COLORS else table
                for each in _listed(table, tally, table_kind, kind, splits):
                    found[each.value] = _sum(found[each.value], each) if each.value in found else each
        if found:
            break
    return sorted(found.values(), key=lambda each: each.value)


def _listed(table: ValueTable, tally: Tally, stored: Sign, kind: str, splits: list[str]) -> list[ValueCount]:
    names: list[int | Color] = list(tally.colors) if stored == COLORS else list(range(SLOTS))
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
    """Of a run of numbers of which nearly all pixels have one, that one: 0 for 0, 1, 2, as JPEG leaves them."""
    merged = ValueTable(len(table.masks))
    present = np.flatnonzero(table.pixels)
    runs = np.split(present, np.flatnonzero(np.diff(present) > 4) + 1)
    for run in runs:
        strongest = run[np.argmax(table.pixels[run])]
        alone = table.pixels[strongest] > 0.8 * table.pixels[run].sum()
        kept = run[run == strongest] if alone else run
        merged.pixels[kept], merged.masks[:, kept] = table.pixels[kept], table.masks[:, kept]
        if alone:
            merged.pixels[strongest] = table.pixels[run].sum()
    return merged


def palette_found(tally: Tally, values: list[ValueCount]) -> dict[int, Color] | None:
    """The colours of the numbers in use by the palette that most masks have; None where no mask has one."""
    which = tally.palette_of[tally.has(Sign.MASK_PALETTE)]
    if not len(which) or not tally.palettes:
        return None
    number = int(np.bincount(which, minlength=256)[: len(tally.palettes)].argmax())
    palette = palette_bytes(tally, number)
    return {each.value: color_at(palette, each.value) for each in values if isinstance(each.value, int)}


def palette_bytes(tally: Tally, number: int) -> bytes:
    return list(tally.palettes)[number]


def color_at(palette: bytes, index: int) -> Color:
    """The colour of a number; black where the palette is too short."""
    entry = palette[3 * index : 3 * index + 3]
    return (entry[0], entry[1], entry[2]) if len(entry) == 3 else (0, 0, 0)
