"""Groups of images that belong into one split: video sequences by name, and images that look alike."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fastfcn.checking.images import similar_pairs
from fastfcn.data.folds import frame_number, prefix, sequences

LARGEST = 0.5  # fraction of all images from which a group is cut into consecutive parts
PARTS = 5  # of a group that is cut
# Of images with neighboring numbers: mean difference of the cells of their fingerprints, in steps of 1/32 standard
# deviation, and number of different bits of their hashes (of 64). Unrelated photos have about 36 and 32.
FRAME_DIFFERENCE, FRAME_BITS = 10, 16
COPY_BITS = 10  # different bits of the hashes of images with any names that are almost the same


class Groups(NamedTuple):
    """The names of each group, in order, and the `reasons` for grouping (one line each)."""

    units: list[list[str]]
    reasons: tuple[str, ...]


class Looks(NamedTuple):
    """Fingerprints, int8 (images, cells), and hashes, uint8 (images, bytes), as `checking.images` computes them."""

    fingerprints: np.ndarray
    gradients: np.ndarray


def group_images(names: Sequence[str], looks: Looks) -> Groups:
    """Group images by sequence and by similarity; `names` are sorted. Without groups, each image is one unit."""
    links = _Links(len(names))
    by_name, reasons = sequences(names), []
    if by_name:
        index = {name: number for number, name in enumerate(names)}
        for members in by_name.values():
            links.join_all([index[name] for name in members])
        shown = ", ".join(repr(members[0]) for members in list(by_name.values())[:2])
        reasons.append(
            f"The names suggest {len(by_name)} sequences ({shown}, ...). Each is entirely in one split, because "
            "neighboring frames in both would make the scores too high."
        )
    before = links.groups()
    _join_frames(names, looks, links)
    _join_copies(looks, links)
    units = [[names[index] for index in group] for group in links.groups()]
    if len(units) < len(before):
        reasons.append(_similar_reason(units))
    return _without_dominant(units, len(names), reasons)


class _Links:
    """Which images are in one group: a union-find structure."""

    def __init__(self, count: int):
        self._parents = list(range(count))

    def root(self, index: int) -> int:
        while self._parents[index] != index:
            self._parents[index] = index = self._parents[self._parents[index]]
        return index

    def join(self, first: int, second: int) -> None:
        low, high = sorted((self.root(first), self.root(second)))
        self._parents[high] = low

    def join_all(self, indices: Sequence[int]) -> None:
        for index in indices[1:]:
            self.join(indices[0], index)

    def groups(self) -> list[list[int]]:
        members: dict[int, list[int]] = defaultdict(list)
        for index in range(len(self._parents)):
            members[self.root(index)].append(index)
        return list(members.values())


def _join_frames(names: Sequence[str], looks: Looks, links: _Links) -> None:
    """Join images that look alike and whose names differ in the number only, with no other number in between."""
    usable = looks.fingerprints[:, 0] != -128
    for first, second in zip(*_neighbors(names), strict=True):
        difference = np.abs(looks.fingerprints[first].astype(np.int16) - looks.fingerprints[second]).mean()
        bits = _different_bits(looks.gradients, np.array([first]), np.array([second]))[0]
        if usable[first] and usable[second] and difference <= FRAME_DIFFERENCE and bits <= FRAME_BITS:
            links.join(first, second)


def _neighbors(names: Sequence[str]) -> tuple[list[int], list[int]]:
    """Indices of names with the same prefix and successive numbers."""
    numbered: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for index, name in enumerate(names):
        if (number := frame_number(name)) is not None:
            numbered[prefix(name)].append((number, index))
    ordered = [[index for _, index in sorted(members)] for members in numbered.values()]
    return [i for members in ordered for i in members[:-1]], [i for members in ordered for i in members[1:]]


def _join_copies(looks: Looks, links: _Links) -> None:
    """Join images that are almost the same, whatever their names."""
    alone = np.arange(len(looks.fingerprints))
    for first, second in similar_pairs(looks.fingerprints, alone):
        close = _different_bits(looks.gradients, first, second) <= COPY_BITS
        for one, other in zip(first[close].tolist(), second[close].tolist(), strict=True):
            links.join(one, other)


def _different_bits(gradients: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.unpackbits(np.bitwise_xor(gradients[first], gradients[second]), axis=1).sum(1)


def _similar_reason(units: list[list[str]]) -> str:
    similar = [unit for unit in units if len(unit) > 1]
    largest = max(similar, key=len)
    return (
        f"{sum(map(len, similar))} images form {len(similar)} group(s) of images that look alike, such as the frames "
        f"of a video (the largest: {largest[0]!r} to {largest[-1]!r}, {len(largest)} images). Each group is entirely "
        "in one split."
    )


def _without_dominant(units: list[list[str]], count: int, reasons: list[str]) -> Groups:
    """Cut a group that has most of the images into consecutive parts, because it would leave too few for a split.

    A small one is only cut if there is no other.
    """
    result = []
    for unit in units:
        if len(unit) <= LARGEST * count or (len(unit) < 2 * PARTS and len(units) > 1):
            result.append(unit)
            continue
        parts = min(PARTS, len(unit))
        bounds = np.linspace(0, len(unit), parts + 1).astype(int)
        result += [unit[start:stop] for start, stop in pairwise(bounds.tolist())]
        reasons.append(
            f"{len(unit)} of the {count} images are in one group, which is therefore cut into {parts} consecutive "
            "parts. Images at the cuts are in both splits almost alike; another recording for val would be better."
        )
    return Groups(result, tuple(reasons))
