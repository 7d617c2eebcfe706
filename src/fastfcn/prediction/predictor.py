"""Predictors: networks that take images in any form. `Predictor` is the interface, `TorchPredictor` runs PyTorch."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import overload

import numpy as np
import torch
from torch import Tensor

from fastfcn import build
from fastfcn.data.description import DatasetDescription
from fastfcn.errors import UserError
from fastfcn.fast.cpu_bf16 import fastest_precision
from fastfcn.fast.optimize import optimize
from fastfcn.models.segmenter import Segmenter
from fastfcn.prediction.image_formats import ImageLike, as_pixels, batches, is_batch
from fastfcn.prediction.inference import (
    input_sizes,
    predict_labels,
    predict_logits,
    predict_probabilities,
    resized_batch,
)
from fastfcn.prediction.prediction import Prediction
from fastfcn.prediction.tiles import prepare_tiles
from fastfcn.recipes.inference import InferenceSettings, inference_settings
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.machine import FULL_PRECISION, autocast_type, keep_memory, precision_name
from fastfcn.utils.sizes import Size


class Predictor(ABC):
    """A network that predicts the classes of images; made by `fastfcn.load`.

    Attributes:
        recipe: the recipe that the network was trained with.
        description: names, colors and ids of the classes.
        images: reads image files as the network needs them: RGB uint8, or bands in float32.
        device: where the network runs.
        inference: the sizes, windows and views at which images are processed.
        precision: in which the network runs: "32-true", "bf16-mixed" or "16-mixed".
        network: the network, with the methods of `Segmenter`.
    """

    network: Segmenter
    precision: str = FULL_PRECISION

    def __init__(
        self, recipe: Recipe, description: DatasetDescription, device: torch.device, inference: InferenceSettings | None
    ):
        """`inference`: None for that of the recipe, which `fastfcn evaluate` uses too."""
        self.recipe = recipe
        self.description = description
        self.images = build.image_reader(recipe, description)
        self.device = device
        self.inference = inference or inference_settings(recipe)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, by class index."""
        return self.description.class_names

    @abstractmethod
    def computing(self) -> AbstractContextManager:
        """The context in which the network runs, such as autocast."""

    @torch.inference_mode()
    def labels(self, images: np.ndarray) -> np.ndarray:
        """Class indices (B, H, W) of images of one size: RGB uint8 (B, H, W, 3), or bands in float32."""
        with self.computing():
            return predict_labels(self.network, *self._arguments(images)).cpu().numpy()

    @torch.inference_mode()
    def logits(self, images: np.ndarray) -> np.ndarray:
        """Logits before softmax, float32 (B, classes, H, W), of images as for `labels`.

        With test-time augmentation or votes of windows, the logarithm of `probabilities`.
        """
        with self.computing():
            return predict_logits(self.network, *self._arguments(images)).cpu().numpy()

    @torch.inference_mode()
    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities, float32 (B, classes, H, W), 0-1, of images as for `labels`."""
        with self.computing():
            strips = predict_probabilities(self.network, *self._arguments(images))
            return torch.cat([probabilities.float() for _, probabilities in strips], 2).cpu().numpy()

    def input_pixels(self, size: Size) -> int:
        """How many pixels the network processes for an image of (height, width), in all views: how much work it is."""
        views = 2 if self.inference.tta and self.inference.flip else 1
        return views * sum(height * width for height, width in input_sizes(self.inference, size))

    def _arguments(self, images: np.ndarray) -> tuple[InferenceSettings, list[Tensor], Size]:
        settings, size = self.inference, (images.shape[1], images.shape[2])
        return self.network_settings, resized_batch(settings, images), size

    @property
    def network_settings(self) -> InferenceSettings:
        """`inference` as it applies to `network`."""
        return self.inference

    @overload
    def __call__(
        self, images: Sequence[ImageLike], logits: bool = False, probabilities: bool = False
    ) -> list[Prediction]: ...
    @overload
    def __call__(self, images: ImageLike, logits: bool = False, probabilities: bool = False) -> Prediction: ...

    def __call__(
        self, images: ImageLike | Sequence[ImageLike], logits: bool = False, probabilities: bool = False
    ) -> Prediction | list[Prediction]:
        """Segment one image, or several; labels have the size of the image.

        Args:
            images: one image, as a path, a PIL image, an RGB uint8 array (H, W, 3), or an RGB tensor (3, H, W) of
                uint8 or of floats from 0 to 1; or several, as a list of these in any sizes, an array (B, H, W, 3), or
                a tensor (B, 3, H, W). For a network of bands: paths, arrays (H, W, bands) or tensors (bands, H, W) of
                the recipe's bands, with the values of the files.
            logits: also return the logits in each prediction: float32 (classes, H, W), before softmax.
            probabilities: also return the class probabilities in each prediction: float32 (classes, H, W), 0-1.

        Raises DataError for a file that cannot be read and for arrays in another form.
        """
        if not is_batch(images):
            return self._predict([as_pixels(images, self.images)], logits, probabilities)[0]  # type: ignore[arg-type]
        return self._predict([as_pixels(image, self.images) for image in images], logits, probabilities)  # type: ignore[union-attr]

    def _predict(self, images: list[np.ndarray], with_logits: bool, with_probabilities: bool) -> list[Prediction]:
        predictions = []
        for batch in batches(images):
            outputs = self._outputs(np.stack([images[index] for index in batch]), with_logits, with_probabilities)
            for index, *output in zip(batch, *outputs, strict=True):
                labels, logits, probabilities = output
                predictions.append(
                    Prediction(labels, self.images.preview(images[index]), self.description, logits, probabilities)
                )
        return predictions

    def _outputs(self, images: np.ndarray, with_logits: bool, with_probabilities: bool) -> tuple[Iterable, ...]:
        """Labels, logits and probabilities of each image; None for what was not requested."""
        nothing = [None] * len(images)
        if with_logits:
            logits = self.logits(images)
            probabilities = _softmax(logits) if with_probabilities else nothing
            return _best(logits), logits, probabilities
        if with_probabilities:
            probabilities = self.probabilities(images)
            return _best(probabilities), nothing, probabilities
        return self.labels(images), nothing, nothing


def _best(maps: np.ndarray) -> np.ndarray:
    """Indices (B, H, W) of the largest of (B, classes, H, W)."""
    return maps.argmax(1).astype(np.uint8 if maps.shape[1] <= 256 else np.int64)


def _softmax(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).softmax(1).numpy()


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
        precision: str = FULL_PRECISION,
        inference: InferenceSettings | None = None,
    ):
        """`precision`: as for `load`. On a CPU, `fastest_precision` may choose float32 instead of bf16."""
        super().__init__(recipe, description, find_device(device), inference)
        self.precision = precision_name(precision)
        self.inference = prepare_tiles(self.inference, partial(build.network, recipe, len(description.classes)))
        fuse = not self.inference.whole_in_tiles
        self.network = optimize(model.to(self.device), in_place=True, autocast=autocast_type(self.precision), fuse=fuse)
        if self.device.type == "cpu":
            keep_memory(large=True)
            self.precision = fastest_precision(self.precision, recipe.channels, self.network, self.network)

    def computing(self) -> torch.autocast:
        dtype = autocast_type(self.precision)
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None)


def find_device(name: str) -> torch.device:
    """The device of that name; "auto" is a GPU if there is one, else the CPU. Raises UserError if it is missing."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device  # checks the device itself; torch.device only parses the name
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"Cannot use the device {name!r}: {reason}", "Use another device, or auto.") from error
