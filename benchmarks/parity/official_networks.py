"""The networks that FastFCN's own code and we both know, and the way from its weights to ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import official_code
from forward import Photographs, normalised
from torch import nn

from fastfcn import build, recipes
from fastfcn.models.segmenter import Segmenter
from fastfcn.recipes.recipe import Recipe
from fastfcn.weights.official import from_official

COMPARED = (480, 480)  # where the scores get their standard deviation
JPU_X = 'neck={kind="jpu_x", width=512, dilations=[1, 2, 4], groups=32, align_corners=true}'


@dataclass(frozen=True)
class Architecture:
    """One network; `data` is what their code calls the data set."""

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


def with_meaning(encoding: Any, architecture: Architecture, photographs: Photographs) -> nn.Module:
    """Their network, with weights that make class maps of many classes."""
    model = official_code.build(encoding, architecture.head, architecture.neck, architecture.depth, architecture.data)
    compared = normalised(photographs.picture(2, COMPARED))
    official_code.give_meaning(model, photographs.for_statistics(), compared)
    return model


def from_theirs(used: Recipe, theirs: nn.Module) -> Segmenter:
    """Our network with their weights."""
    model = build.network(used, len(build.description(used).classes))
    model.load_state_dict(from_official(theirs.state_dict()), strict=True)
    return model.eval()


def parameters(model: nn.Module) -> int:
    return sum(each.numel() for each in model.parameters())
