"""Networks that FastFCN's official code and fastfcn both have, and the conversion of weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import official_code
from forward import SampleImages, normalized
from torch import nn

from fastfcn import build, recipes
from fastfcn.models.segmenter import Segmenter
from fastfcn.recipes.recipe import Recipe
from fastfcn.weights.official import from_official

COMPARED = (480, 480)  # image size for calibrating the logits
JPU_X = 'neck={kind="jpu_x", width=512, dilations=[1, 2, 4], groups=32, align_corners=true}'


@dataclass(frozen=True)
class Architecture:
    """One network; `data` is the dataset's name in the official code."""

    head: str
    neck: str
    depth: int
    data: str

    @property
    def name(self) -> str:
        return f"r{self.depth}_{self.head}_{self.neck}"

    def recipe(self, changes: Sequence[str] = ()) -> Recipe:
        neck = [JPU_X] if self.neck == "jpu_x" else []
        return recipes.load(f"official_r{self.depth}_{self.head}_{self.data}", [*neck, *changes])


NETWORKS = [Architecture(head, neck, 50, "pcontext") for neck in ("jpu", "jpu_x") for head in official_code.MODELS]
NETWORKS.append(Architecture("enc", "jpu", 101, "ade20k"))


def calibrated_network(encoding: Any, architecture: Architecture, samples: SampleImages) -> nn.Module:
    """The official network, with weights that predict many classes."""
    model = official_code.build(encoding, architecture.head, architecture.neck, architecture.depth, architecture.data)
    compared = normalized(samples.image(2, COMPARED))
    official_code.calibrate_weights(model, samples.for_statistics(), compared)
    return model


def from_theirs(recipe: Recipe, theirs: nn.Module) -> Segmenter:
    """fastfcn's network with the official weights."""
    model = build.network(recipe, len(build.description(recipe).classes))
    model.load_state_dict(from_official(theirs.state_dict()), strict=True)
    return model.eval()


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
