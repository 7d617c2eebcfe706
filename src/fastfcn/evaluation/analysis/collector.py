"""Everything a report says of a network on a split, collected in the one pass by which it is scored."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor

from fastfcn.data.description import DataSetDescription
from fastfcn.evaluation.analysis.bootstrap import Intervals, Resampling
from fastfcn.evaluation.analysis.boundary import BoundaryCounts
from fastfcn.evaluation.analysis.calibration import Calibrated, Calibration, Reliability
from fastfcn.evaluation.analysis.extremes import Extremes
from fastfcn.evaluation.analysis.images import Shown, show
from fastfcn.evaluation.analysis.mistakes import count_by_class, mistakes
from fastfcn.evaluation.analysis.speed import Speed, measure_speed
from fastfcn.evaluation.evaluate import EvaluationSetup, Progress, measure
from fastfcn.metrics import ConfusionMatrix, Scores
from fastfcn.utils.types import IGNORE_INDEX


class Collector:
    """An observer of `evaluate.measure`; its memory depends on the number of classes, not on images or pixels."""

    def __init__(self, images: int, classes: int):
        self.resampling = Resampling(images, classes)
        self.calibration = Calibration()
        self.boundary = BoundaryCounts(classes)
        self.extremes = Extremes()
        self.mistakes = np.zeros((classes, 3), np.int64)  # by true class: boundary, confusion, missed

    def strip(self, index: int, top: int, labels: Tensor, probabilities: Tensor, label: Tensor) -> None:
        confidence, labelled = probabilities.amax(0).cpu(), label != IGNORE_INDEX
        right = labels.cpu() == label
        self.calibration.update(confidence[labelled].double().numpy(), right[labelled].numpy())
        self.calibration.sample(index, top, probabilities, label)

    def image(self, index: int, labels: Tensor, label: Tensor) -> None:
        matrix = ConfusionMatrix(self.mistakes.shape[0])
        matrix.update(labels.cpu(), label)
        counts = matrix.counts.numpy()
        self.resampling.update(index, counts)
        self.extremes.update(index, Scores(counts).miou)
        prediction, truth = labels.cpu().numpy(), label.numpy()
        self.boundary.update(prediction, truth)
        self.mistakes += count_by_class(mistakes(prediction, truth), truth, len(self.mistakes))

    def gather(self, fabric: Fabric) -> None:
        if fabric.world_size == 1:
            return
        calibration, resampling = self.calibration, self.resampling
        sums = (
            resampling.sums, resampling.holding, calibration.bins, calibration.sampled_bins, calibration.losses,
            calibration.sampled, self.boundary.counts, self.extremes.histogram, self.mistakes,
        )  # fmt: skip
        for array in sums:
            total = fabric.all_reduce(torch.from_numpy(array).to(fabric.device), reduce_op="sum")
            array[...] = torch.as_tensor(total).cpu().numpy()
        worst, best = (
            torch.as_tensor(fabric.all_gather(torch.from_numpy(rows).to(fabric.device))).cpu().numpy()
            for rows in (self.extremes.worst, self.extremes.best)
        )
        self.extremes.merge(worst, best)

    def figures(self) -> dict[str, Any]:
        """Those of `Findings` that come from the images seen."""
        return {
            "intervals": self.resampling.intervals(),
            "holding": self.resampling.holding,
            "boundary_iou": self.boundary.iou(),
            "reliability": self.calibration.reliability(),
            "calibrated": self.calibration.calibrated(),
            "mistakes": self.mistakes,
            "spread": self.extremes.histogram,
        }


@dataclass(frozen=True)
class Findings:
    """What was found of a network on `images` images of `split`; scores are in percent (0-100).

    `boundary_iou`: by class; `mistakes`: wrong pixels of each true class by kind (classes, 3); `spread`: images in
    twenty bins of their own mIoU.
    """

    about: DataSetDescription
    split: str
    images: int
    views: str
    scores: Scores
    intervals: Intervals
    holding: np.ndarray
    boundary_iou: np.ndarray
    reliability: Reliability
    calibrated: Calibrated | None
    mistakes: np.ndarray
    spread: np.ndarray
    worst: list[Shown]
    best: list[Shown]
    speed: Speed

    @property
    def dice(self) -> np.ndarray:
        """Dice of each class in percent, 2 IoU / (1 + IoU)."""
        return 100 * 2 * self.scores.iou / (100 + self.scores.iou)

    @property
    def precision(self) -> np.ndarray:
        """Share of each class's predicted pixels that are right, in percent; nan where it is never predicted."""
        with np.errstate(invalid="ignore"):
            return 100.0 * self.scores.counts.diagonal() / self.scores.counts.sum(0)


def find(
    setup: EvaluationSetup, tta: bool = False, workers: int = 0, progress: Progress | None = None,
    shown: tuple[list[int], list[int]] | None = None,
) -> Findings:  # fmt: skip
    """Score `setup` and collect what a report tells. `shown`: worst and best images, where others chose them.

    With several processes all of them must call it; each gets the figures.
    """
    about = setup.dataset.description
    collector = Collector(len(setup.dataset), len(about.classes))
    scores = measure(setup.model, setup.recipe, setup.dataset, setup.fabric, tta, workers, progress, collector)
    worst, best = shown or collector.extremes.indices()
    return Findings(
        about=about,
        split=setup.dataset.split,
        images=len(setup.dataset),
        views="several scales and flips" if tta else "one scale",
        scores=scores,
        **collector.figures(),
        worst=[show(setup, index, tta) for index in worst],
        best=[show(setup, index, tta) for index in best],
        speed=measure_speed(setup),
    )
