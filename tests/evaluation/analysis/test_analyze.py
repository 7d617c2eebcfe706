"""The collector: one pass gives every result, and several processes that split the images agree with one."""

from typing import Any

import numpy as np
import pytest
import torch

from fastfcn.evaluation.analysis.analyze import Collector
from fastfcn.evaluation.analysis.examples import ImageRanking

CLASSES, IMAGES, SIZE = 4, 7, (30, 40)


def example(index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities (classes, H, W) and label of an image."""
    rng = torch.Generator().manual_seed(index)
    probabilities = torch.rand(CLASSES, *SIZE, generator=rng).pow(3)
    label = torch.randint(0, CLASSES, (5, 5), generator=rng).repeat_interleave(6, 0).repeat_interleave(8, 1)
    label = label.to(torch.uint8)
    if index % 2:
        label[:4] = 255
    probabilities[label.long().clamp(max=CLASSES - 1), torch.arange(30)[:, None], torch.arange(40)] += (
        0.2 * index / IMAGES
    )
    return probabilities / probabilities.sum(0), label


def collected(indices: range) -> Collector:
    collector = Collector(IMAGES, CLASSES)
    for index in indices:
        probabilities, label = example(index)
        labels = probabilities.argmax(0).to(torch.uint8)
        for top in (0, 12):  # in two strips
            rows = slice(top, 12 if top == 0 else 30)
            collector.strip(index, top, labels[rows], probabilities[:, rows], label[rows])
        collector.image(index, labels, label)
    return collector


class TwoProcesses:
    """A Fabric of two processes that run one after the other: it records what the first sends, for the second."""

    world_size, device = 2, torch.device("cpu")

    def __init__(self) -> None:
        self.first: list[torch.Tensor] = []
        self.position = 0
        self.recording = True

    def _exchange(self, local: torch.Tensor) -> torch.Tensor:
        if self.recording:
            self.first.append(local.clone())
            return torch.zeros_like(local)
        self.position += 1
        return self.first[self.position - 1]

    def all_reduce(self, local: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "sum"
        return local + self._exchange(local)

    def all_gather(self, local: torch.Tensor) -> torch.Tensor:
        return torch.stack([self._exchange(local), local])


def test_two_processes_agree_with_one():
    alone, fabric = collected(range(IMAGES)), TwoProcesses()
    one, two = collected(range(0, IMAGES, 2)), collected(range(1, IMAGES, 2))
    one.gather(fabric)  # type: ignore[arg-type]
    fabric.recording = False
    two.gather(fabric)  # type: ignore[arg-type]
    assert two.ranking.indices() == alone.ranking.indices()
    pairs: list[tuple[Any, Any]] = [
        (two.bootstrap.intervals().replicates, alone.bootstrap.intervals().replicates),
        (two.bootstrap.image_counts, alone.bootstrap.image_counts),
        (two.boundary.iou(), alone.boundary.iou()),
        (two.calibration.reliability().ece, alone.calibration.reliability().ece),
        (two.error_counts, alone.error_counts),
        (two.ranking.histogram, alone.ranking.histogram),
    ]
    for actual, expected in pairs:
        np.testing.assert_allclose(actual, expected, rtol=1e-12)
    both, single = two.calibration.temperature_scaling(), alone.calibration.temperature_scaling()
    assert both
    assert single
    assert (both.temperature, both.pixels) == (pytest.approx(single.temperature), single.pixels)


def test_every_wrong_pixel_is_counted_once():
    collector, wrong, labeled = collected(range(IMAGES)), 0, 0
    for index in range(IMAGES):
        probabilities, label = example(index)
        wrong += int(((probabilities.argmax(0) != label) & (label != 255)).sum())
        labeled += int((label != 255).sum())
    assert collector.error_counts.sum() == wrong
    assert collector.calibration.bins[0].sum() == labeled
    assert collector.calibration.bins[2].sum() == labeled - wrong


def test_memory_does_not_depend_on_images():
    def memory(images: int) -> int:
        bootstrap = Collector(images, CLASSES).bootstrap
        return bootstrap.sums.nbytes + bootstrap._remaining.nbytes

    assert memory(10) == memory(100_000)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 40])
def test_worst_and_best_do_not_overlap(count):
    scores = np.random.default_rng(0).permutation(count).astype(float)
    ranking = ImageRanking(worst=3, best=2)
    for index, score in enumerate(scores.tolist()):
        ranking.update(index, score)
    ranking.update(count, float("nan"))  # an image without labels
    worst, best = ranking.indices()
    order = np.argsort(scores).tolist()
    assert worst == order[: len(worst)]
    assert best == order[::-1][: len(best)]
    assert not set(worst) & set(best)
    assert 1 <= len(worst) <= 3
    assert len(worst) + len(best) == min(count, 5)
    assert ranking.histogram.sum() == count
