"""The images of each training step: a pure function of the seed, so a resumed run sees the same ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fastfcn.errors import UserError


@dataclass(frozen=True, slots=True)
class SampleKey:
    """One sample of a step: `slot` counts through the total batch, `index` is the image."""

    step: int
    slot: int
    index: int
    seed: int

    def generator(self) -> np.random.Generator:
        """The random generator of this sample's augmentation."""
        return np.random.default_rng([self.seed, self.step, self.slot])

    def mixing_generator(self) -> np.random.Generator:
        """The random generator of what is mixed into this sample: another stream than `generator`."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, self.step, self.slot], spawn_key=(0, 1)))


def batch(step: int, rank: int, world: int, batch: int, count: int, seed: int) -> list[SampleKey]:
    """The samples that process `rank` of `world` reads in `step`, out of the total `batch`, from `count` images.

    Images come in the order of one permutation per epoch. A batch may continue into the next epoch, so every image is
    seen once per epoch and none is dropped. The total batch is the same for every `world`. Raises UserError if the
    batch cannot be divided by `world`.
    """
    if batch % world:
        raise UserError(
            f"A batch of {batch} cannot be divided evenly among {world} processes.",
            "Choose a batch that is a multiple of devices times accumulation steps.",
        )
    share = batch // world
    slots = range(rank * share, (rank + 1) * share)
    return [SampleKey(step, slot, _image(step * batch + slot, count, seed), seed) for slot in slots]


class BatchSampler:
    """The batches of one process for steps `start` to `end` (exclusive): a `batch_sampler` for a DataLoader.

    With `parts` > 1, each step is split into that many smaller lists, for gradient accumulation.
    """

    def __init__(
        self,
        count: int,
        batch: int,
        seed: int,
        start: int,
        end: int,
        rank: int = 0,
        world: int = 1,
        parts: int = 1,
    ):
        if count < 1:
            raise ValueError("a sampler needs at least one image")
        self.count, self.batch, self.seed = count, batch, seed
        self.start, self.end = start, end
        self.rank, self.world, self.parts = rank, world, parts

    def __len__(self) -> int:
        return max(self.end - self.start, 0) * self.parts

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for step in range(self.start, self.end):
            for part in range(self.rank * self.parts, (self.rank + 1) * self.parts):
                yield batch(step, part, self.world * self.parts, self.batch, self.count, self.seed)


def _image(position: int, count: int, seed: int) -> int:
    epoch, offset = divmod(position, count)
    return int(_permutation(epoch, count, seed)[offset])


@lru_cache(maxsize=4)
def _permutation(epoch: int, count: int, seed: int) -> np.ndarray:
    # A spawn key, because [seed, epoch] would repeat the stream of the sample in step `epoch`, slot 0.
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch,))).permutation(count)
