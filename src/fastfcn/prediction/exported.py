"""Exported files as predictors, and in place of a PyTorch network in evaluation."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fastfcn.errors import DataError, UserError
from fastfcn.ops.upsample import upsample_labels
from fastfcn.prediction.inference import input_sizes
from fastfcn.prediction.predictor import Predictor
from fastfcn.prediction.runtimes.base import Session
from fastfcn.prediction.runtimes.metadata import ExportMetadata, parse_metadata
from fastfcn.prediction.runtimes.registry import open_session, runtime_of
from fastfcn.prediction.runtimes.self_test import run_self_test
from fastfcn.recipes.inference import Context, InferenceSettings, SizeLike, inference_settings
from fastfcn.utils.machine import FULL_PRECISION, precision_name


class ExportedNetwork(nn.Module):
    """The methods of `Segmenter` that inference calls, for an exported file.

    Images are not normalized, because the file does it itself (see `InferenceSettings.unnormalized`): RGB has values
    from 0 to 255, rounded to whole numbers. Logits have the size of the image, and need a file that outputs them.
    """

    batch_pixels = 0

    def __init__(self, path: Path, session: Session, metadata: ExportMetadata):
        super().__init__()
        self.path, self.session, self.metadata = path, session, metadata
        self.align_corners = metadata.recipe.head.align_corners
        # Inference moves images to the device of the first parameter.
        self.device_marker = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        if not self.metadata.logits:
            raise UserError(
                f"{self.path} outputs labels only, but logits are needed, for example to resize them.",
                'Export it again with --logits, or use --size image (size="image") to run it on images as they are.',
            )
        return torch.from_numpy(self.run(self._pixels(images))[1]).to(images.device)

    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, classes, H, W) of images (B, C, H, W) that are not normalized."""
        return self(images)

    def labels(self, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Class indices (B, H, W), at another `size` if it is given: the logits are resized to it."""
        if size is None or tuple(size) == tuple(images.shape[-2:]):
            return torch.from_numpy(self.run(self._pixels(images))[0]).to(images.device)
        return upsample_labels(self.logits(images), [size], self.align_corners)

    def _pixels(self, images: Tensor) -> np.ndarray:
        if not self.metadata.recipe.data.bands:
            images = images.round().clamp(0, 255).to(torch.uint8)
        return images.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Outputs of the file for images (B, H, W, C), RGB uint8 or bands in float32. Raises DataError if too large."""
        height, width = images.shape[1:3]
        largest = self.metadata.largest
        if largest and (height > largest[0] or width > largest[1]):
            raise DataError(
                f"{self.path} takes images up to {largest[0]}x{largest[1]}; this one is {height}x{width}.",
                "Export it again with a larger --largest, or use a smaller --size.",
            )
        return self.session.run(np.ascontiguousarray(images))


class ExportedPredictor(Predictor):
    """A predictor that runs an exported file in its own runtime; made by `fastfcn.load`.

    `path` is the file, `metadata` what it stores besides the network, `session` the file in its runtime.
    """

    def __init__(
        self, path: str | Path, device: str = "auto", precision: str = FULL_PRECISION, trusted: bool = False,
        size: SizeLike | None = None, tta: bool = False, window: SizeLike | None = None, overlap: float | None = None,
        tile: int | None = None, context: Context = "window", self_test: bool = True,
    ):  # fmt: skip
        """`precision` must be "32-true": an exported file has its own precision, which cannot be changed.

        The other arguments are changes to the recipe's `eval`, see `inference_settings`. Raises UserError for another
        precision and for tiles with the context of the whole image, WeightsError if the file fails its self-test; for
        the rest see `open_session`. `self_test`: run it.
        """
        self.path = Path(path)
        self.session = open_session(self.path, device, trusted)
        self.metadata = parse_metadata(self.session.metadata, path)
        if precision_name(precision) != FULL_PRECISION:
            raise UserError(
                f"{path} was exported in {self.metadata.precision} and cannot run in {precision}.",
                "Leave out the precision, or use the weights file that it was exported from.",
            )
        if context == "whole":
            raise UserError(
                f"{path} is an exported file and cannot process tiles with the context of the whole image.",
                'Use --context window (context="window"), or the weights file that it was exported from.',
            )
        if self_test:
            self._run_self_test(device)
        recipe = self.metadata.recipe
        self.exported = ExportedNetwork(self.path, self.session, self.metadata)
        self.network = self.exported  # type: ignore[assignment]
        device_type = torch.device("cuda" if device.startswith("cuda") else "cpu")
        inference = inference_settings(recipe, size, tta, window, overlap, tile, context)
        super().__init__(recipe, self.metadata.description, device_type, inference)

    def _run_self_test(self, device: str) -> None:
        """Raise WeightsError if the file computes other results than at export."""
        test, runtime = self.metadata.self_test, runtime_of(self.path)
        if test and runtime:
            run_self_test(test, self.session.run, "cpu" if device == "auto" else device, self.path, runtime.title)

    @property
    def network_settings(self) -> InferenceSettings:
        return self.inference.unnormalized()

    def computing(self) -> AbstractContextManager:
        return nullcontext()

    def labels(self, images: np.ndarray) -> np.ndarray:
        size = (images.shape[1], images.shape[2])
        if self.inference.is_plain and input_sizes(self.inference, size) == [size]:
            return self.exported.run(images)[0]  # without the way through float32
        return super().labels(images)
