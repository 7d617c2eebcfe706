"""Paste part of another training image into a sample: CutMix, and copy-paste of rare classes.

A partner is any image of the split, with a scale, crop, flip and colors of its own. Image and label are pasted
together, so that ignored pixels stay ignored.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from torch import Tensor

from fastfcn.utils.regions import connected_regions
from fastfcn.utils.sizes import IGNORE_INDEX

Sample = tuple[Tensor, Tensor]  # normalized image (3, h, w), and label uint8 (h, w)
# Draws another sample of the split; with classes, one that is cropped around one of them, or None if it met none.
Partner = Callable[[np.random.Generator, Sequence[int]], Sample | None]


@dataclass(frozen=True)
class CutMix:
    """With `probability`, a rectangle of another sample replaces that part (arXiv:1905.04899, arXiv:1906.01916).

    The rectangle covers 1 - lambda of the crop before it is cut at the edges, with lambda from the beta distribution
    (`alpha`, `alpha`), and has the crop's aspect ratio (equation 2).
    """

    probability: float
    alpha: float

    def __call__(self, sample: Sample, partner: Partner, generator: np.random.Generator) -> Sample:
        """`sample`, or a mixed copy of it; all randomness comes from `generator`."""
        other = partner(generator, ()) if generator.random() < self.probability else None
        if other is None:
            return sample
        inside = np.zeros(tuple(sample[1].shape), bool)
        inside[_box(inside.shape, sqrt(1 - generator.beta(self.alpha, self.alpha)), generator)] = True
        return _paste(sample, other, inside)


@dataclass(frozen=True)
class CopyPaste:
    """With `probability`, objects of `classes` from another sample are pasted where they are (arXiv:2012.07177).

    An object is a connected region of one class. Half of those in the partner's crop are pasted, and at least one.
    """

    probability: float
    classes: tuple[int, ...]

    def __call__(self, sample: Sample, partner: Partner, generator: np.random.Generator) -> Sample:
        """`sample`, or a mixed copy of it; all randomness comes from `generator`."""
        other = partner(generator, self.classes) if generator.random() < self.probability else None
        if other is None:
            return sample
        return _paste(sample, other, _some_objects(other[1].numpy(), self.classes, generator))


Mixing = CutMix | CopyPaste


def _box(size: tuple[int, ...], share: float, generator: np.random.Generator) -> tuple[slice, ...]:
    """A rectangle of `share` of both sides of `size` around a random point, cut at the edges."""
    sides = []
    for length in size:
        center, half = generator.uniform(0, length), share * length / 2
        sides.append(slice(round(max(center - half, 0)), round(min(center + half, length))))
    return tuple(sides)


def _some_objects(label: np.ndarray, classes: Sequence[int], generator: np.random.Generator) -> np.ndarray:
    """The pixels of a random half of the connected regions of `classes`, (h, w) bool; of none if there are none."""
    regions = connected_regions(np.where(np.isin(label, classes), label, IGNORE_INDEX))
    numbers = np.unique(regions[np.isin(label, classes)])
    if not len(numbers):
        return np.zeros(label.shape, bool)
    chosen = numbers[generator.random(len(numbers)) < 0.5]
    return np.isin(regions, chosen if len(chosen) else generator.choice(numbers, 1))


def _paste(sample: Sample, other: Sample, inside: np.ndarray) -> Sample:
    """`sample` with the pixels `inside` (h, w) from `other`."""
    mask = torch.from_numpy(inside)
    return torch.where(mask, other[0], sample[0]), torch.where(mask, other[1], sample[1])
