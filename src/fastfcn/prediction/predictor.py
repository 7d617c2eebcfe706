"""Predictors: networks that take images in any form. `Predictor` is the interface, `TorchPredictor` runs PyTorch."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import overload

import numpy as np
import torch
from torch import Tensor

from fastfcn.data.description import DatasetDescription
from fastfcn.data.transforms import normalize_batch
from fastfcn.errors import UserError
from fastfcn.fast.optimize import optimize
from fastfcn.models.segmenter import Segmenter
from fastfcn.prediction.image_formats import ImageLike, as_pixels, batches, is_batch
from fastfcn.prediction.prediction import Prediction
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.machine import autocast_type, keep_memory


class Predictor(ABC):
    """A network that predicts the classes of images; made by `fastfcn.load`.

    Attributes:
        recipe: the recipe that the network was trained with.
        description: names, colors and ids of the classes.
        device: where the network runs.
    """

    def __init__(self, recipe: Recipe, description: DatasetDescription, device: torch.device):
        self.recipe = recipe
        self.description = description
        self.device = device

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, by class index."""
        return self.description.class_names

    @abstractmethod
    def labels(self, images: np.ndarray) -> np.ndarray:
        """Class indices (B, H, W) of RGB uint8 images (B, H, W, 3) of one size."""

    @abstractmethod
    def logits(self, images: np.ndarray) -> np.ndarray:
        """Logits before softmax, float32 (B, classes, H, W), of RGB uint8 images (B, H, W, 3) of one size."""

    @overload
    def __call__(self, images: Sequence[ImageLike], logits: bool = False) -> list[Prediction]: ...
    @overload
    def __call__(self, images: ImageLike, logits: bool = False) -> Prediction: ...

    def __call__(self, images: ImageLike | Sequence[ImageLike], logits: bool = False) -> Prediction | list[Prediction]:
        """Segment one image, or several, at their own size.

        Args:
            images: one image, as a path, a PIL image, an RGB uint8 array (H, W, 3), or an RGB tensor (3, H, W) of
                uint8 or of floats from 0 to 1; or several, as a list of these in any sizes, an array (B, H, W, 3), or
                a tensor (B, 3, H, W).
            logits: also return the logits in each prediction: float32 (classes, H, W), before softmax.

        Raises DataError for a file that cannot be read and for arrays in another form.
        """
        if not is_batch(images):
            return self._predict([as_pixels(images)], logits)[0]  # type: ignore[arg-type]
        return self._predict([as_pixels(image) for image in images], logits)  # type: ignore[union-attr]

    def _predict(self, images: list[np.ndarray], with_logits: bool) -> list[Prediction]:
        predictions = []
        for batch in batches(images):
            pixels = np.stack([images[index] for index in batch])
            if with_logits:
                logits = list(self.logits(pixels))
                labels = [image_logits.argmax(0).astype(np.uint8) for image_logits in logits]
            else:
                logits, labels = [None] * len(batch), list(self.labels(pixels))
            for index, image_labels, image_logits in zip(batch, labels, logits, strict=True):
                predictions.append(Prediction(image_labels, images[index], self.description, image_logits))
        return predictions


class TorchPredictor(Predictor):
    """A predictor that runs a network in PyTorch.

    `network` is the optimized form of the given model (see `fastfcn.fast.optimize`), which is converted in place. On a
    CPU, memory that a prediction frees is kept for the next one.
    """

    def __init__(
        self,
        model: Segmenter,
        recipe: Recipe,
        description: DatasetDescription,
        device: str = "auto",
        precision: str = "32-true",
    ):
        """`precision`: "32-true", "bf16-mixed" or "16-mixed"; the mixed ones are for GPUs."""
        super().__init__(recipe, description, find_device(device))
        self._autocast_type = autocast_type(precision)
        self.network = optimize(model.to(self.device), in_place=True)
        if self.device.type == "cpu":
            keep_memory(large=True)

    @torch.inference_mode()
    def labels(self, images: np.ndarray) -> np.ndarray:
        with self._autocast():
            return self.network.labels(self._normalized(images)).cpu().numpy()

    @torch.inference_mode()
    def logits(self, images: np.ndarray) -> np.ndarray:
        with self._autocast():
            return self.network(self._normalized(images)).float().cpu().numpy()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self._autocast_type, enabled=self._autocast_type is not None)

    def _normalized(self, images: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2)
        return normalize_batch(pixels, self.recipe.data.mean, self.recipe.data.std)


def find_device(name: str) -> torch.device:
    """The device of that name; "auto" is a GPU if there is one, else the CPU. Raises UserError if it is missing."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device  # checks the device itself; torch.device only parses the name
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"Cannot use the device {name!r}: {reason}", "Use another device, or auto.") from error
