"""The network of a weights file, ready for images in any form."""

from collections.abc import Sequence
from typing import overload

import numpy as np
import torch
from torch import Tensor

from fastfcn.data.description import DataSetDescription
from fastfcn.data.transforms import normalise_batch
from fastfcn.errors import UserError
from fastfcn.fast.optimize import optimize
from fastfcn.models.segmenter import Segmenter
from fastfcn.prediction.image_formats import ImageLike, as_pixels, batches, is_batch
from fastfcn.prediction.prediction import Prediction
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.machine import autocast_type, keep_memory


class Predictor:
    """A network with what it needs to read an image; made by `fastfcn.load`.

    `recipe`, `classes` (names), `description` (names, colours, ids), `device`, and `network`: the given one, which is
    used up, in the form that is fastest there (models.optimize). On a processor the memory of a prediction is kept
    for the next. `precision`: "32-true", "bf16-mixed" or "16-mixed"; lower ones are for GPUs.
    """

    def __init__(
        self,
        model: Segmenter,
        recipe: Recipe,
        description: DataSetDescription,
        device: str = "auto",
        precision: str = "32-true",
    ):
        self.device = find_device(device)
        self._half = autocast_type(precision)
        self.network = optimize(model.to(self.device), in_place=True)
        if self.device.type == "cpu":
            keep_memory(large=True)
        self.recipe = recipe
        self.description = description
        self.classes = description.class_names

    @overload
    def __call__(self, images: Sequence[ImageLike], logits: bool = False) -> list[Prediction]: ...
    @overload
    def __call__(self, images: ImageLike, logits: bool = False) -> Prediction: ...

    def __call__(self, images: ImageLike | Sequence[ImageLike], logits: bool = False) -> Prediction | list[Prediction]:
        """The class map of an image at its own size, or those of several as a list.

        One image: a path, a PIL image, an RGB array (H, W, 3) of uint8, or an RGB tensor (3, H, W) of uint8 or of
        floats 0-1. Several: a list of these, of any sizes, an array (B, H, W, 3) or a tensor (B, 3, H, W). With
        `logits` each prediction holds its logits too: float32 (classes, H, W), before softmax.

        Raises DataError for a file that cannot be read and for arrays of another kind.
        """
        if not is_batch(images):
            return self._predict([as_pixels(images)], logits)[0]  # type: ignore[arg-type]
        return self._predict([as_pixels(image) for image in images], logits)  # type: ignore[union-attr]

    def _predict(self, images: list[np.ndarray], with_logits: bool) -> list[Prediction]:
        predictions = []
        for batch in batches(images):
            pixels = np.stack([images[index] for index in batch])
            logits = self.logits(pixels) if with_logits else [None] * len(batch)
            labels = [each.argmax(0).astype(np.uint8) for each in logits] if with_logits else self.labels(pixels)  # type: ignore[union-attr]
            for index, label, score in zip(batch, labels, logits, strict=True):
                predictions.append(Prediction(label, images[index], self.description, score))
        return predictions

    @torch.inference_mode()
    def labels(self, images: np.ndarray) -> np.ndarray:
        """Class maps (B, H, W) of RGB uint8 images (B, H, W, 3) of one size."""
        with self._autocast():
            return self.network.labels(self._normalised(images)).cpu().numpy()

    @torch.inference_mode()
    def logits(self, images: np.ndarray) -> np.ndarray:
        """Logits before softmax, float32 (B, classes, H, W), of RGB uint8 images (B, H, W, 3) of one size."""
        with self._autocast():
            return self.network(self._normalised(images)).float().cpu().numpy()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self._half, enabled=self._half is not None)

    def _normalised(self, images: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2)
        return normalise_batch(pixels, self.recipe.data.mean, self.recipe.data.std)


def find_device(name: str) -> torch.device:
    """The device of that name; "auto" is a GPU where there is one. Raises UserError for one that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device  # asks the device itself, where torch.device reads the name alone
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"Cannot use the device {name!r}: {reason}", "Choose another, or auto.") from error
