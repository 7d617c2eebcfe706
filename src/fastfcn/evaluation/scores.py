"""The result of an evaluation, as an object, as JSON and in one line."""

import math
from dataclasses import dataclass

from fastfcn.data.description import DatasetDescription
from fastfcn.metrics import Scores


@dataclass(frozen=True)
class EvaluationResult:
    """Scores of a network on one split of a dataset; all values in percent (0-100).

    `scores` holds the confusion matrix and the metrics of every class in their order; `description` is the dataset's,
    `split` the name of the split.
    """

    scores: Scores
    description: DatasetDescription
    split: str

    @property
    def miou(self) -> float:
        """Mean intersection over union; classes in neither labels nor predictions do not count."""
        return self.scores.miou

    @property
    def mean_accuracy(self) -> float:
        """Mean of the accuracies of the classes in the labels."""
        return self.scores.mean_accuracy

    @property
    def pixel_accuracy(self) -> float:
        """Share of labeled pixels whose class is right."""
        return self.scores.pixel_accuracy

    @property
    def classes(self) -> dict[str, float]:
        """Class name -> intersection over union; nan for a class in neither labels nor predictions."""
        return dict(zip(self.description.class_names, self.scores.iou.tolist(), strict=True))

    def as_json(self) -> dict:
        """See `as_json`."""
        return as_json(self.scores, self.description)


def as_json(scores: Scores, description: DatasetDescription) -> dict:
    """Scores as JSON: `miou`, `mean_accuracy`, `pixel_accuracy` (0-100), and `classes` by name; nan becomes null.

    `final_score` (0-1) is the mean of pixel accuracy and mIoU, by which the scene parsing challenge on ADE20K ranks;
    0.5584 of the FastFCN paper (arXiv:1903.11816) is such a score, on the challenge's test set.
    """
    columns = zip(description.class_names, scores.iou, scores.accuracy, scores.pixels, strict=True)
    return {
        "miou": _number(scores.miou),
        "mean_accuracy": _number(scores.mean_accuracy),
        "pixel_accuracy": _number(scores.pixel_accuracy),
        "final_score": _number((scores.pixel_accuracy + scores.miou) / 200),
        "classes": {
            name: {"iou": _number(iou), "accuracy": _number(accuracy), "pixels": int(pixels)}
            for name, iou, accuracy, pixels in columns
        },
    }


def summary(scores: Scores) -> str:
    """mIoU, mean accuracy and pixel accuracy in one line, in percent."""
    return (
        f"mIoU {scores.miou:.2f}   mean accuracy {scores.mean_accuracy:.2f}   "
        f"pixel accuracy {scores.pixel_accuracy:.2f}"
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 4)
