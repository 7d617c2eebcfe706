"""Example images of a split: which ones the network does worst and best on, and what a report shows of them."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from fastfcn.evaluation.analysis.error_types import error_types
from fastfcn.evaluation.evaluate import EvaluationSetup, TestImages
from fastfcn.metrics import ConfusionMatrix, Scores
from fastfcn.prediction.inference import predict_labels

WORST, BEST = 5, 3
BINS = 20
LONGEST = 480  # pixels of the longer side of an example image


class ImageRanking:
    """The images with the lowest and highest mIoU (over the classes in the image), and a histogram of all images.

    `worst` and `best` are rows of (mIoU 0-100, index), padded with nan.
    """

    def __init__(self, worst: int = WORST, best: int = BEST):
        self.worst = np.full((worst, 2), np.nan)
        self.best = np.full((best + worst, 2), np.nan)  # some of these may be among the worst
        self.histogram = np.zeros(BINS, np.int64)

    def update(self, index: int, miou: float) -> None:
        """Add an image; one without labels (mIoU nan) is skipped."""
        if np.isnan(miou):
            return
        self.histogram[min(int(miou * BINS / 100), BINS - 1)] += 1
        row = np.array([[miou, index]])
        self.worst = _first(np.concatenate([self.worst, row]), len(self.worst), 1)
        self.best = _first(np.concatenate([self.best, row]), len(self.best), -1)

    def indices(self) -> tuple[list[int], list[int]]:
        """Indices of the worst and the best images, most extreme first, without overlap."""
        worst, best = ([int(index) for _, index in rows if not np.isnan(index)] for rows in (self.worst, self.best))
        images = int(self.histogram.sum())
        worst = worst[: max(1, min(len(worst), images - min(images // 2, len(self.best) - len(self.worst))))]
        return worst, [index for index in best if index not in worst][: len(self.best) - len(self.worst)]

    def merge(self, worst: np.ndarray, best: np.ndarray) -> None:
        """Replace the rows by the first of all processes' rows of (mIoU, index)."""
        self.worst = _first(worst.reshape(-1, 2), len(self.worst), 1)
        self.best = _first(best.reshape(-1, 2), len(self.best), -1)


def _first(rows: np.ndarray, count: int, sign: int) -> np.ndarray:
    """The first `count` rows, ordered by mIoU (descending if `sign` is -1), then by index; nan comes last."""
    return rows[np.lexsort((rows[:, 1], sign * rows[:, 0]))][:count]


@dataclass(frozen=True)
class ExampleImage:
    """One image, reduced for display; `miou` and `accuracy` (0-100) are those of the full image.

    `image`: RGB uint8 (h, w, 3); `label`, `prediction` (class indices) and `errors` (error types): uint8 (h, w).
    """

    index: int
    name: str
    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    errors: np.ndarray
    miou: float
    accuracy: float


@torch.inference_mode()
def example_image(setup: EvaluationSetup, index: int, tta: bool = False) -> ExampleImage:
    """Predict image `index` of the split and reduce it to at most 480 pixels on the longer side."""
    example = setup.dataset[index]
    settings = setup.inference.with_tta(tta)
    images, label = TestImages(setup.dataset, settings)[index]
    size = (label.shape[0], label.shape[1])
    with setup.fabric.autocast():
        labels = predict_labels(setup.model, settings, images, size)[0].cpu()
    matrix = ConfusionMatrix(len(setup.dataset.description.classes))
    matrix.update(labels, label)
    scores = Scores(matrix.counts.numpy())
    errors = error_types(labels.numpy(), example.label)
    small = _display_size(size)
    return ExampleImage(
        index,
        example.name,
        _resize(setup.dataset.images.preview(example.image), small, Image.Resampling.LANCZOS),
        label=_resize(example.label, small),
        prediction=_resize(labels.numpy(), small),
        errors=_resize(errors, small),
        miou=scores.miou,
        accuracy=scores.pixel_accuracy,
    )


def _display_size(size: tuple[int, int]) -> tuple[int, int]:
    """`size` (height, width) with the longer side at most LONGEST."""
    factor = min(1.0, LONGEST / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _resize(
    values: np.ndarray, size: tuple[int, int], resampling: Image.Resampling = Image.Resampling.NEAREST
) -> np.ndarray:
    return np.asarray(Image.fromarray(values).resize((size[1], size[0]), resampling))
