"""Segmentation scores from one streaming confusion matrix; equal to mmsegmentation's IoUMetric."""

import numpy as np
import torch
from torch import Tensor

from fastfcn.utils.sizes import IGNORE_INDEX


class ConfusionMatrix:
    """Counts of (true class, predicted class) over labelled pixels, int64; memory does not grow with the images."""

    def __init__(self, classes: int, device: torch.device | str = "cpu"):
        self.counts = torch.zeros(classes, classes, dtype=torch.int64, device=device)

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Add class maps of the same shape; pixels with label 255 are left out."""
        if prediction.shape != label.shape:
            raise ValueError(f"prediction {tuple(prediction.shape)} and label {tuple(label.shape)} differ in shape")
        classes = self.counts.shape[0]
        labelled = label != IGNORE_INDEX
        pairs = label[labelled].long() * classes + prediction[labelled].long()
        self.counts += torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


class Scores:
    """Scores of a confusion matrix (true class, predicted class), in percent (0-100).

    `pixels`: labelled pixels of each class; `iou`: intersection over union of each class, nan where neither labels
    nor predictions hold it; `accuracy`: share of each class's pixels that were found, nan where the labels do not
    hold it; `miou`, `mean_accuracy`: means over the classes that have one; `pixel_accuracy`: share of all labelled
    pixels that were right.
    """

    def __init__(self, counts: np.ndarray):
        right = counts.diagonal()
        self.counts = counts
        self.pixels = counts.sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            self.iou = 100.0 * right / (self.pixels + counts.sum(0) - right)
            self.accuracy = 100.0 * right / self.pixels
            self.pixel_accuracy = float(100.0 * right.sum() / counts.sum())
        self.miou = _mean(self.iou)
        self.mean_accuracy = _mean(self.accuracy)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
