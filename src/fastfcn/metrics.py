"""IoU and accuracy from a streaming confusion matrix; equal to mmsegmentation's IoUMetric."""

import numpy as np
import torch
from torch import Tensor

from fastfcn.utils.sizes import IGNORE_INDEX


class ConfusionMatrix:
    """Counts of (true class, predicted class) over labeled pixels, int64; its size does not depend on the images."""

    def __init__(self, classes: int, device: torch.device | str = "cpu"):
        self.counts = torch.zeros(classes, classes, dtype=torch.int64, device=device)

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Add predicted and true labels of the same shape; pixels with label 255 are ignored. Raises ValueError."""
        if prediction.shape != label.shape:
            raise ValueError(f"prediction {tuple(prediction.shape)} and label {tuple(label.shape)} differ in shape")
        count = _count_pairs if label.device.type == "cpu" else _count_pairs_on_device
        self.counts += count(prediction, label, self.counts.shape[0])


def _count_pairs(prediction: Tensor, label: Tensor, classes: int) -> Tensor:
    """Number of labeled pixels with each pair (true class, predicted class)."""
    labeled = label != IGNORE_INDEX
    pairs = label[labeled].long() * classes + prediction[labeled].long()
    return torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def _count_pairs_on_device(prediction: Tensor, label: Tensor, classes: int) -> Tensor:
    """As `_count_pairs`, without reading a size from the device: unlabeled pixels are counted in a row of their own."""
    rows = label.long().masked_fill(label == IGNORE_INDEX, classes)
    pairs = (rows * classes + prediction.long()).flatten()
    counts = pairs.new_zeros((classes + 1) * classes)
    return counts.index_add_(0, pairs, torch.ones_like(pairs)).view(classes + 1, classes)[:classes]


class Scores:
    """Scores of a confusion matrix (true class, predicted class), in percent (0-100).

    `pixels`: number of labeled pixels of each class; `iou`: intersection over union of each class, nan if neither
    labels nor predictions contain it; `accuracy`: share of each class's pixels that were predicted correctly, nan if
    the labels do not contain it; `miou`, `mean_accuracy`: means over the classes that are not nan; `pixel_accuracy`:
    share of all labeled pixels that were predicted correctly.
    """

    def __init__(self, counts: np.ndarray):
        correct = counts.diagonal()
        self.counts = counts
        self.pixels = counts.sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            self.iou = 100.0 * correct / (self.pixels + counts.sum(0) - correct)
            self.accuracy = 100.0 * correct / self.pixels
            self.pixel_accuracy = float(100.0 * correct.sum() / counts.sum())
        self.miou = _mean(self.iou)
        self.mean_accuracy = _mean(self.accuracy)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
