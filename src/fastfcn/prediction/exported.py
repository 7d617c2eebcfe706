"""Exported files as predictors, and in place of a PyTorch network in evaluation."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fastfcn.errors import DataError, UserError
from fastfcn.ops.upsample import upsample_labels
from fastfcn.prediction.predictor import Predictor
from fastfcn.prediction.runtimes.metadata import parse_metadata
from fastfcn.prediction.runtimes.registry import open_session
from fastfcn.recipes.recipe import Recipe

FULL_PRECISION = "32-true"


class ExportedPredictor(Predictor):
    """A predictor that runs an exported file in its own runtime; made by `fastfcn.load`.

    `path` is the file, `metadata` what it stores besides the network, `session` the file in its runtime.
    """

    def __init__(self, path: str | Path, device: str = "auto", precision: str = FULL_PRECISION, trusted: bool = False):
        """`precision` must be "32-true": an exported file has its own precision, which cannot be changed.

        Raises UserError for another precision; for the rest see `open_session`.
        """
        self.path = Path(path)
        self.session = open_session(self.path, device, trusted)
        self.metadata = parse_metadata(self.session.metadata, path)
        if precision != FULL_PRECISION:
            raise UserError(
                f"{path} was exported in {self.metadata.precision} and cannot run in {precision}.",
                "Leave out the precision, or use the weights file that it was exported from.",
            )
        on_gpu = device.startswith("cuda")
        super().__init__(self.metadata.recipe, self.metadata.description, torch.device("cuda" if on_gpu else "cpu"))

    def labels(self, images: np.ndarray) -> np.ndarray:
        """Class indices (B, H, W) of RGB uint8 images (B, H, W, 3). Raises DataError if they are too large."""
        return self._run(images)[0]

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Logits before softmax, float32 (B, classes, H, W). Raises UserError if the file does not output them."""
        if not self.metadata.logits:
            raise UserError(f"{self.path} outputs labels only, no logits.", "Export it again with --logits.")
        return self._run(images)[1]

    def _run(self, images: np.ndarray) -> list[np.ndarray]:
        height, width = images.shape[1:3]
        largest = self.metadata.largest
        if largest and (height > largest[0] or width > largest[1]):
            raise DataError(
                f"{self.path} takes images up to {largest[0]}x{largest[1]}; this one is {height}x{width}.",
                "Export it again with a larger --largest.",
            )
        return self.session.run(np.ascontiguousarray(images))


class ExportedNetwork(nn.Module):
    """The methods of `Segmenter` that evaluation calls, for an exported file.

    Images have values from 0 to 255, because the file normalizes them itself (see `unnormalized`). Logits have the
    size of the image, and need a file that outputs them.
    """

    align_corners = False

    def __init__(self, predictor: ExportedPredictor):
        super().__init__()
        self.predictor = predictor
        # Evaluation moves images to the device of the first parameter.
        self.device_marker = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        return torch.from_numpy(self.predictor.logits(_pixels(images))).to(images.device)

    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, classes, H, W) of images (B, 3, H, W) with values from 0 to 255."""
        return self(images)

    def labels(self, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Class indices (B, H, W), at another `size` if it is given: the logits are resized to it."""
        if size is None or tuple(size) == tuple(images.shape[-2:]):
            return torch.from_numpy(self.predictor.labels(_pixels(images))).to(images.device)
        return upsample_labels(self.logits(images), [size])


def _pixels(images: Tensor) -> np.ndarray:
    return images.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def unnormalized(recipe: Recipe, path: str | Path) -> Recipe:
    """The recipe for evaluating an exported file, which normalizes images itself.

    Raises UserError for evaluation with sliding windows, which cuts windows from the normalized image.
    """
    if recipe.eval.kind == "sliding":
        raise UserError(
            f"{path} cannot be evaluated with sliding windows, as the recipe {recipe.name} requires.",
            "Evaluate the weights file that it was exported from.",
        )
    return recipe.override(["data.mean=[0.0, 0.0, 0.0]", "data.std=[1.0, 1.0, 1.0]"])
