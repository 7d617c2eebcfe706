"""An exported file in the place of a weights file."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fastfcn.errors import DataError, UserError
from fastfcn.ops.upsample import upsample_labels
from fastfcn.prediction.predictor import Predictor
from fastfcn.prediction.runtimes.contents import read_contents
from fastfcn.prediction.runtimes.formats import SUFFIXES, open_session
from fastfcn.recipes.recipe import Recipe


class ExportedPredictor(Predictor):
    """`Predictor` of an exported file; made by `fastfcn.load`.

    `contents` is what the file says of itself, `network` what `evaluate` measures, `device` where it runs. `logits`,
    and predictions with logits, need a file that has them.
    """

    def __init__(self, path: str | Path, device: str = "auto", trusted: bool = False):
        self.path = Path(path)
        self.session = open_session(self.path, device, trusted)
        self.contents = read_contents(self.session.texts, path)
        self.device = torch.device("cuda" if device.startswith("cuda") else "cpu")
        self.recipe, self.description = self.contents.recipe, self.contents.description
        self.classes = self.description.class_names
        self.network = ExportedNetwork(self)  # type: ignore[assignment] # of what a Segmenter does, all that is asked

    def labels(self, images: np.ndarray) -> np.ndarray:
        """Class maps (B, H, W) of RGB uint8 images (B, H, W, 3) of one size. Raises DataError for the size."""
        return self._run(images)[0]

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Logits before softmax, float32 (B, classes, H, W). Raises UserError where the file has none."""
        if not self.contents.logits:
            raise UserError(f"{self.path} gives class maps only, no logits.", "Export it again with --logits.")
        return self._run(images)[1]

    def _run(self, images: np.ndarray) -> list[np.ndarray]:
        height, width = images.shape[1:3]
        largest = self.contents.largest
        if largest and (height > largest[0] or width > largest[1]):
            raise DataError(
                f"{self.path} takes images up to {largest[0]}x{largest[1]}, not of {height}x{width}.",
                "Export it again with a larger --largest.",
            )
        return self.session.run(np.ascontiguousarray(images))


class ExportedNetwork(nn.Module):
    """What evaluation asks of a network, of images whose values are still 0-255 (`of_pixels`).

    Logits are at the size of the image, and there only if the file has them.
    """

    align_corners = False

    def __init__(self, predictor: ExportedPredictor):
        super().__init__()
        self.predictor = predictor
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)  # whose device is where images are wanted

    def forward(self, images: Tensor) -> Tensor:
        return torch.from_numpy(self.predictor.logits(_pixels(images))).to(images.device)

    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, classes, H, W) of images (B, 3, H, W) of values 0-255."""
        return self(images)

    def labels(self, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Class map (B, H, W); with another `size` resized on to it, as logits."""
        if size is None or tuple(size) == tuple(images.shape[-2:]):
            return torch.from_numpy(self.predictor.labels(_pixels(images))).to(images.device)
        return upsample_labels(self.logits(images), [size])


def _pixels(images: Tensor) -> np.ndarray:
    return images.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def is_exported(path: str | Path) -> bool:
    """Whether the name is that of an exported file."""
    return Path(path).suffix.lower() in SUFFIXES


def of_pixels(recipe: Recipe, path: str | Path) -> Recipe:
    """The recipe for an exported network, which normalises by itself. Raises UserError for windows that slide."""
    if recipe.eval.kind == "sliding":
        raise UserError(
            f"{path}: {recipe.name} is tested by windows of the normalised image, and an exported file normalises.",
            "Evaluate the weights file it was made of.",
        )
    return recipe.override(["data.mean=[0.0, 0.0, 0.0]", "data.std=[1.0, 1.0, 1.0]"])
