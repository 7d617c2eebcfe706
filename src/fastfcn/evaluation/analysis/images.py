"""Images that a report shows: small, with truth, prediction and what went wrong."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from fastfcn.evaluation.analysis.mistakes import mistakes
from fastfcn.evaluation.evaluate import EvaluationSetup
from fastfcn.evaluation.inference import TestImages, predict_labels
from fastfcn.metrics import ConfusionMatrix, Scores

LONGEST = 480  # pixels of the longer side


@dataclass(frozen=True)
class Shown:
    """One image at a size to look at; `miou` and `accuracy` (0-100) are of the whole image.

    `image`: RGB uint8 (h, w, 3); `label`, `prediction`, `kinds` (of mistakes): uint8 (h, w).
    """

    index: int
    name: str
    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    kinds: np.ndarray
    miou: float
    accuracy: float


@torch.inference_mode()
def show(setup: EvaluationSetup, index: int, tta: bool = False) -> Shown:
    """Predict image `index` of the split and make it small."""
    example = setup.dataset[index]
    images, label = TestImages(setup.dataset, setup.recipe, tta)[index]
    size = (label.shape[0], label.shape[1])
    with setup.fabric.autocast():
        labels = predict_labels(setup.model, setup.recipe, images, size, tta).cpu()
    matrix = ConfusionMatrix(len(setup.dataset.description.classes))
    matrix.update(labels, label)
    own = Scores(matrix.counts.numpy())
    kinds = mistakes(labels.numpy(), example.label)
    small = _size(size)
    picture = Image.fromarray(example.image).resize((small[1], small[0]), Image.Resampling.LANCZOS)
    return Shown(
        index,
        example.name,
        np.asarray(picture),
        label=_map(example.label, small),
        prediction=_map(labels.numpy(), small),
        kinds=_map(kinds, small),
        miou=own.miou,
        accuracy=own.pixel_accuracy,
    )


def _size(size: tuple[int, int]) -> tuple[int, int]:
    """`size` with the longer side at most LONGEST."""
    share = min(1.0, LONGEST / max(size))
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def _map(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(values).resize((size[1], size[0]), Image.Resampling.NEAREST))
