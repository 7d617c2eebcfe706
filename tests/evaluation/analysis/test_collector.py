"""What the collector finds in one pass, and that processes which share the images find the same together."""

from typing import Any

import numpy as np
import pytest
import torch

from fastfcn.evaluation.analysis.collector import Collector
from fastfcn.evaluation.analysis.extremes import Extremes

CLASSES, IMAGES, SIZE = 4, 7, (30, 40)


def example(index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Shares (classes, H, W) and label of an image."""
    chance = torch.Generator().manual_seed(index)
    shares = torch.rand(CLASSES, *SIZE, generator=chance).pow(3)
    label = torch.randint(0, CLASSES, (5, 5), generator=chance).repeat_interleave(6, 0).repeat_interleave(8, 1)
    label = label.to(torch.uint8)
    if index % 2:
        label[:4] = 255
    shares[label.long().clamp(max=CLASSES - 1), torch.arange(30)[:, None], torch.arange(40)] += 0.2 * index / IMAGES
    return shares / shares.sum(0), label


def fed(indices: range) -> Collector:
    collector = Collector(IMAGES, CLASSES)
    for index in indices:
        shares, label = example(index)
        labels = shares.argmax(0).to(torch.uint8)
        for top in (0, 12):  # in two strips
            rows = slice(top, 12 if top == 0 else 30)
            collector.strip(index, top, labels[rows], shares[:, rows], label[rows])
        collector.image(index, labels, label)
    return collector


class Together:
    """A Fabric of two processes, of which the `other` has been here before; sums in the order they are asked for."""

    world_size, device = 2, torch.device("cpu")

    def __init__(self) -> None:
        self.first: list[torch.Tensor] = []
        self.asked = 0
        self.recording = True

    def _meet(self, own: torch.Tensor) -> torch.Tensor:
        if self.recording:
            self.first.append(own.clone())
            return torch.zeros_like(own)
        self.asked += 1
        return self.first[self.asked - 1]

    def all_reduce(self, own: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "sum"
        return own + self._meet(own)

    def all_gather(self, own: torch.Tensor) -> torch.Tensor:
        return torch.stack([self._meet(own), own])


def test_two_processes_find_what_one_finds():
    alone, fabric = fed(range(IMAGES)), Together()
    one, two = fed(range(0, IMAGES, 2)), fed(range(1, IMAGES, 2))
    one.gather(fabric)  # type: ignore[arg-type]
    fabric.recording = False
    two.gather(fabric)  # type: ignore[arg-type]
    assert two.extremes.indices() == alone.extremes.indices()
    pairs: list[tuple[Any, Any]] = [
        (two.resampling.intervals().replicates, alone.resampling.intervals().replicates),
        (two.resampling.holding, alone.resampling.holding),
        (two.boundary.iou(), alone.boundary.iou()),
        (two.calibration.reliability().ece, alone.calibration.reliability().ece),
        (two.mistakes, alone.mistakes),
        (two.extremes.histogram, alone.extremes.histogram),
    ]
    for mine, expected in pairs:
        np.testing.assert_allclose(mine, expected, rtol=1e-12)
    both, single = two.calibration.calibrated(), alone.calibration.calibrated()
    assert both
    assert single
    assert (both.temperature, both.sampled) == (pytest.approx(single.temperature), single.sampled)


def test_every_wrong_pixel_is_counted_once():
    collector, wrong, labelled = fed(range(IMAGES)), 0, 0
    for index in range(IMAGES):
        shares, label = example(index)
        wrong += int(((shares.argmax(0) != label) & (label != 255)).sum())
        labelled += int((label != 255).sum())
    assert collector.mistakes.sum() == wrong
    assert collector.calibration.bins[0].sum() == labelled
    assert collector.calibration.bins[2].sum() == labelled - wrong


def test_memory_does_not_depend_on_images():
    def held(images: int) -> int:
        resampling = Collector(images, CLASSES).resampling
        return resampling.sums.nbytes + resampling._left.nbytes

    assert held(10) == held(100_000)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 40])
def test_worst_and_best_do_not_share_images(count):
    scores = np.random.default_rng(0).permutation(count).astype(float)
    extremes = Extremes(worst=3, best=2)
    for index, score in enumerate(scores.tolist()):
        extremes.update(index, score)
    extremes.update(count, float("nan"))  # an image without labels
    worst, best = extremes.indices()
    order = np.argsort(scores).tolist()
    assert worst == order[: len(worst)]
    assert best == order[::-1][: len(best)]
    assert not set(worst) & set(best)
    assert 1 <= len(worst) <= 3
    assert len(worst) + len(best) == min(count, 5)
    assert extremes.histogram.sum() == count
