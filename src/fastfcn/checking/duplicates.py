"""The same image twice: the same file, and pictures that are nearly the same."""

import numpy as np

from fastfcn.checking.image_reading import CELLS

ALIKE = 4  # steps of 1/32 of the spread of its parts' brightness, by which fingerprints of copies may differ
CANDIDATES = 4096  # pairs of images that are compared at a time


def same_digest(digests: np.ndarray) -> np.ndarray:
    """Groups of equal entries, 0 for those that are alone, else a number for each group; int32."""
    order = np.argsort(digests, kind="stable").astype(np.uint32)
    same = digests[order[1:]] == digests[order[:-1]]
    same &= digests[order[1:]] != 0
    groups, number = np.zeros(len(digests), np.int32), 0
    for at in np.flatnonzero(same):
        number += not (at and same[at - 1])
        groups[order[at : at + 2]] = number
    return groups


def alike(fingerprints: np.ndarray, splits: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, tuple[int, int] | None]:
    """Which images look nearly like one of another split, bool (images,), and two of them; without pairs of which
    both are `known` to be the same file as others."""
    usable = np.flatnonzero(fingerprints[:, 0] != -128).astype(np.uint32)
    order = usable[np.argsort(fingerprints[usable, CELLS * CELLS // 2], kind="stable")]
    prints, groups, old = fingerprints[order], splits[order], known[order]
    middles = prints[:, CELLS * CELLS // 2].astype(np.int16)
    found, example, start = np.zeros(len(fingerprints), bool), None, 0
    while start < len(order):
        rows, columns = _block(middles, start)
        first, second = _near(prints, groups, rows, columns)
        fresh = ~(old[first] & old[second])
        first, second = order[first[fresh]], order[second[fresh]]
        found[first] = found[second] = True
        if len(first) and not example:
            example = (int(min(first[0], second[0])), int(max(first[0], second[0])))
        start = rows.stop
    return found, example


def _block(middles: np.ndarray, start: int) -> tuple[slice, slice]:
    """Rows from `start` on, no more than make CANDIDATES, and all that may be alike one of them and come later."""
    stop = start + 1
    while True:
        last = int(np.searchsorted(middles, middles[stop - 1] + ALIKE, side="right"))
        more = min(2 * stop - start, len(middles))
        if more == stop or (more - start) * (last - start) > CANDIDATES:
            return slice(start, stop), slice(start, last)
        stop = more


def _near(prints: np.ndarray, groups: np.ndarray, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
    """Which of `rows` and later ones of `columns` are alike and of two splits; parts are compared one by one, so that
    few candidates are left after the first."""
    there = np.arange(columns.start, columns.stop, dtype=np.int32)
    here = np.arange(rows.start, rows.stop, dtype=np.int32)
    close = (groups[rows, None] != groups[None, columns]) & (there[None] > here[:, None])
    first, second = np.nonzero(close)
    first, second = first + rows.start, second + columns.start
    for part in range(CELLS * CELLS):
        kept = np.abs(prints[first, part].astype(np.int16) - prints[second, part]) <= ALIKE
        first, second = first[kept], second[kept]
    return first, second
