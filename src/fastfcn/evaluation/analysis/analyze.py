"""Analyze a network on a split: scores, intervals, calibration, error types and example images in one pass."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from fastfcn.data.description import DatasetDescription
from fastfcn.evaluation.analysis.bootstrap import Bootstrap, Intervals
from fastfcn.evaluation.analysis.boundary import BoundaryCounts
from fastfcn.evaluation.analysis.calibration import Calibration, Reliability, TemperatureScaling
from fastfcn.evaluation.analysis.error_types import ERROR_TYPES, count_by_class, error_types
from fastfcn.evaluation.analysis.examples import ExampleImage, ImageRanking, example_image
from fastfcn.evaluation.analysis.speed import Speed, measure_speed
from fastfcn.evaluation.evaluate import EvaluationSetup, Progress, measure
from fastfcn.metrics import ConfusionMatrix, Scores
from fastfcn.utils.sizes import IGNORE_INDEX


class Collector:
    """An observer of `evaluate.measure`. Its memory depends on the number of classes, not on images or pixels."""

    def __init__(self, images: int, classes: int):
        self.bootstrap = Bootstrap(images, classes)
        self.calibration = Calibration()
        self.boundary = BoundaryCounts(classes)
        self.ranking = ImageRanking()
        self.error_counts = np.zeros((classes, len(ERROR_TYPES)), np.int64)

    def strip(self, index: int, top: int, labels: Tensor, probabilities: Tensor, label: Tensor) -> None:
        confidence, labeled = probabilities.amax(0).cpu(), label != IGNORE_INDEX
        correct = labels.cpu() == label
        self.calibration.update(confidence[labeled].double().numpy(), correct[labeled].numpy())
        self.calibration.sample(index, top, probabilities, label)

    def image(self, index: int, labels: Tensor, label: Tensor) -> None:
        matrix = ConfusionMatrix(len(self.error_counts))
        matrix.update(labels.cpu(), label)
        counts = matrix.counts.numpy()
        self.bootstrap.update(index, counts)
        self.ranking.update(index, Scores(counts).miou)
        prediction, truth = labels.cpu().numpy(), label.numpy()
        self.boundary.update(prediction, truth)
        self.error_counts += count_by_class(error_types(prediction, truth), truth, len(self.error_counts))

    def gather(self, fabric: Fabric) -> None:
        if fabric.world_size == 1:
            return
        calibration, bootstrap = self.calibration, self.bootstrap
        sums = (
            bootstrap.sums, bootstrap.totals, bootstrap.image_counts, calibration.bins, calibration.sampled_bins,
            calibration.losses, calibration.sampled, self.boundary.counts, self.ranking.histogram, self.error_counts,
        )  # fmt: skip
        for array in sums:
            total = fabric.all_reduce(torch.from_numpy(array).to(fabric.device), reduce_op="sum")
            array[...] = torch.as_tensor(total).cpu().numpy()
        worst, best = (
            torch.as_tensor(fabric.all_gather(torch.from_numpy(rows).to(fabric.device))).cpu().numpy()
            for rows in (self.ranking.worst, self.ranking.best)
        )
        self.ranking.merge(worst, best)

    def results(self) -> dict[str, Any]:
        """The fields of `Analysis` that are computed from the images seen."""
        return {
            "intervals": self.bootstrap.intervals(),
            "image_counts": self.bootstrap.image_counts,
            "boundary_iou": self.boundary.iou(),
            "reliability": self.calibration.reliability(),
            "temperature_scaling": self.calibration.temperature_scaling(),
            "error_counts": self.error_counts,
            "miou_histogram": self.ranking.histogram,
        }


@dataclass(frozen=True)
class Analysis:
    """Results of a network on the `images` images of `split`; scores are in percent (0-100).

    `tta`: whether several scales and flips were averaged; `image_counts`: images that contain each class;
    `boundary_iou`: by class; `error_counts`: wrong pixels by true class and error type, (classes, 3);
    `miou_histogram`: images in twenty bins of their own mIoU.
    """

    description: DatasetDescription
    split: str
    images: int
    tta: bool
    scores: Scores
    intervals: Intervals
    image_counts: np.ndarray
    boundary_iou: np.ndarray
    reliability: Reliability
    temperature_scaling: TemperatureScaling | None
    error_counts: np.ndarray
    miou_histogram: np.ndarray
    worst: list[ExampleImage]
    best: list[ExampleImage]
    speed: Speed

    @property
    def dice(self) -> np.ndarray:
        """Dice of each class in percent, 2 IoU / (1 + IoU)."""
        return 100 * 2 * self.scores.iou / (100 + self.scores.iou)

    @property
    def precision(self) -> np.ndarray:
        """Correct fraction of each class's predicted pixels in percent; nan for a class that is never predicted."""
        with np.errstate(invalid="ignore"):
            return 100.0 * self.scores.counts.diagonal() / self.scores.counts.sum(0)


def analyze(
    setup: EvaluationSetup, tta: bool = False, workers: int = 0, progress: Progress | None = None,
    examples: tuple[list[int], list[int]] | None = None,
) -> Analysis:  # fmt: skip
    """Evaluate `setup` and analyze its predictions.

    `tta`: average several scales and flips; `workers`: dataloader workers; `examples`: indices of the worst and the
    best images to show, by default those of this network. With several processes, all must call it; each gets the
    full result.
    """
    description = setup.dataset.description
    collector = Collector(len(setup.dataset), len(description.classes))
    scores = measure(
        setup.model, setup.inference.with_tta(tta), setup.dataset, setup.fabric, workers, progress, collector
    )
    worst, best = examples or collector.ranking.indices()
    return Analysis(
        description=description,
        split=setup.dataset.split,
        images=len(setup.dataset),
        tta=tta,
        scores=scores,
        **collector.results(),
        worst=[example_image(setup, index, tta) for index in worst],
        best=[example_image(setup, index, tta) for index in best],
        speed=measure_speed(setup),
    )
