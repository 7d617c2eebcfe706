"""Changes of a corrected copy that need consent (`--accept KIND`), and the areas that they would change."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from fastfcn.checking.masks import flat
from fastfcn.errors import UserError
from fastfcn.utils.spelling import did_you_mean

# Kind -> what is done with consent. Without it, the files stay as they are.
KINDS = {
    "deblur": "assign a class to pixels of blurred or lossy masks that no blurred edge explains, such as faint lines",
    "outliers": "set ids far above all others to 255 (ignored)",
    "near-colors": "replace rare colors by the class color that they almost have",
    "shift": "subtract one from the ids of masks that seem to be one too high",
    "binary": "write 1 for 255 in masks of 0 and 255 among masks of 0 and 1",
    "palette": "assign ids by color in masks whose palette has another order",
    "ids": "convert color masks to ids with a palette",
    "renumber": "renumber ids that start at 1 or have gaps to 0, 1, 2, ..., in masks and class lists",
    "folders": "make the masks of each folder a separate class, named after the folder, if all masks mark one class",
    "resize": "resize masks to the size of their image",
    "frames": "keep only the first frame of masks with several",
    "duplicates": "leave out images that occur twice, with their masks",
}
ALL = "all"


class AreaChange(NamedTuple):
    """Pixels of a class, or of a value without a name, in a mask before and after the change of a `kind`."""

    file: str
    kind: str
    class_name: str
    before: int
    after: int


def accepted_kinds(accept: Iterable[str]) -> frozenset[str]:
    """The kinds named by `--accept`; "all" names every kind. Raises UserError for unknown ones."""
    kinds = set(accept)
    if unknown := sorted(kinds - KINDS.keys() - {ALL}):
        raise UserError(
            f"--accept: {unknown[0]!r} is not a kind of change{did_you_mean(unknown[0], KINDS) or '.'}",
            f"Kinds: {', '.join(KINDS)}, or {ALL}.",
        )
    return frozenset(KINDS) if ALL in kinds else frozenset(kinds)


def area_changes(before: np.ndarray, after: np.ndarray, blurred: bool) -> list[tuple[int, int, int]]:
    """(value, pixels before, pixels after) of the values whose area changes by more than their blurred edge.

    `before` and `after` are (H, W), or of different sizes if the mask is resized. The blurred edge of a value are the
    pixels within one pixel of it that differ from a neighbor; sharp masks have none.
    """
    counts = [dict(zip(*(part.tolist() for part in np.unique(mask, return_counts=True)), strict=True))
              for mask in (before, after)]  # fmt: skip
    uneven = ~flat(before) if blurred else None
    changes = []
    for value in sorted(counts[0].keys() | counts[1].keys()):
        old, new = (count.get(value, 0) for count in counts)
        edge = 0
        if old != new and uneven is not None and before.shape == after.shape:
            edge = np.count_nonzero(uneven & _grown((before == value) | (after == value)))
        if abs(new - old) > edge:
            changes.append((value, old, new))
    return changes


def _grown(region: np.ndarray) -> np.ndarray:
    padded = np.pad(region, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]


def value_text(value: Any, names: dict) -> str:
    """A value as the table shows it: with its class name, if it has one."""
    text = str(list(value)) if isinstance(value, tuple) else str(value)
    return f"{names[value]} ({text})" if value in names else text
