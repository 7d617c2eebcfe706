"""Networks and image sizes that a time budget chooses among, and what is known of each before it is measured."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from fastfcn import build, recipes
from fastfcn.bench.flops import count_flops
from fastfcn.bench.stages import parameters
from fastfcn.errors import UserError
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.sizes import Size

WIDTHS = (96, 128, 256, 512)  # of JPU, tried beside the recipe's own
SIZES: tuple[Size, ...] = ((512, 1024), (256, 512))
UNITS = {"ms": 1.0, "s": 1000.0}  # milliseconds


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network, under the names of the recipes that have it, and the size of image that it sees.

    `share`: JPU's width over the recipe's own, 1 at most; `published`: the best mIoU of the recipes in percent, None
    where the network is not quite theirs.
    """

    names: tuple[str, ...]
    recipe: Recipe
    size: Size
    classes: int
    share: float
    published: float | None

    @property
    def width(self) -> int | None:
        """JPU's width, None without JPU."""
        return self.recipe.neck.width if self.recipe.neck.kind == "jpu" else None


@dataclass
class Arithmetic:
    """Operations of candidates by part, counted on the meta device; a part that several share is counted once."""

    _backbones: dict[str, Any] = field(default_factory=dict)
    _counted: dict[tuple, tuple[int, Any]] = field(default_factory=dict)  # of a part: its operations, its output

    def backbone(self, one: Recipe) -> Any:
        """The backbone of a recipe, without values."""
        if backbone_key(one) not in self._backbones:
            self._backbones[backbone_key(one)] = build.backbone(one)
        return self._backbones[backbone_key(one)]

    def of(self, candidate: Candidate) -> dict[str, float]:
        """Operations in "backbone", "neck" and "head", and the number of "logits" (classes x height x width)."""
        one, (height, width) = candidate.recipe, candidate.size
        start = backbone_key(one), candidate.size
        with torch.device("meta"), torch.no_grad():
            backbone = self.backbone(one)
            in_backbone, stages = self._count(start, lambda: backbone, torch.empty(1, 3, height, width))
            channels = backbone.feature_info.channels()[1:]
            in_neck, joined = self._count((*start, one.neck), lambda: build.neck(one, channels), stages[1:])
            reads_stages = build.needs_stages(one)
            features, inputs = (stages, backbone.feature_info.channels()) if reads_stages else (joined, joined.shape[1])
            key = one.head, candidate.classes, start if reads_stages else joined.shape
            in_head, _ = self._count(key, lambda: build.head(one, inputs, candidate.classes), features)
        logits = candidate.classes * height * width
        return {"backbone": in_backbone, "neck": in_neck, "head": in_head, "logits": logits}

    def _count(self, key: tuple, made: Callable[[], nn.Module], features: Any) -> tuple[int, Any]:
        if key not in self._counted:
            part, outputs = _without_norms(made().eval()), []
            self._counted[key] = count_flops(lambda given: outputs.append(part(given)), features), outputs[0]
        return self._counted[key]

    def backbone_parameters(self, one: Recipe) -> int:
        """How many parameters the backbone has, norms left out: larger and smaller ones are told apart by it."""
        with torch.device("meta"):
            return sum(map(parameters, self.backbone(one).modules()))


def _without_norms(part: nn.Module) -> nn.Module:
    """`part` in less time: batch norms hold no products, and torch takes the longest over them on the meta device."""
    for parent in list(part.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, nn.Identity())
    return part


def backbone_key(one: Recipe) -> str:
    """What decides the arithmetic of a recipe's backbone."""
    return one.backbone.model_dump_json(exclude={"pretrained"})


def candidates(names: Sequence[str], changes: Sequence[str], sizes: Sequence[Size]) -> list[Candidate]:
    """Each network of the recipes `names` once, at each of `sizes`; with JPU also at each of WIDTHS."""
    alike: dict[tuple, list[Recipe]] = {}
    for one in (recipes.load(name, changes) for name in names):
        classes = len(build.description(one).classes)
        alike.setdefault((backbone_key(one), one.neck, one.head, classes), []).append(one)
    found = []
    for (*_, classes), same in alike.items():
        scores = [one.published.miou for one in same if one.published and one.published.miou]
        labels = tuple(one.name for one in same)
        for network, share in _widths(same[0]):
            known = max(scores) if scores and network is same[0] and not changes else None
            found += [Candidate(labels, network, size, classes, share, known) for size in sizes]
    return found


def _widths(one: Recipe) -> list[tuple[Recipe, float]]:
    """The recipe as it is, then with each other width of JPU, and that width over its own, 1 at most."""
    if one.neck.kind != "jpu":
        return [(one, 1.0)]
    own = one.neck.width
    return [(one, 1.0)] + [
        (one.model_copy(update={"neck": one.neck.model_copy(update={"width": width})}), min(width / own, 1.0))
        for width in WIDTHS
        if width != own
    ]


def sizes_for(size: Size | None) -> tuple[Size, ...]:
    """`size`, its half and its quarter; else what Cityscapes' crops and their half are."""
    if size is None:
        return SIZES
    return tuple((max(1, size[0] // part), max(1, size[1] // part)) for part in (1, 2, 4))


def milliseconds(text: str) -> float:
    """The time in a text such as "20 ms", "0.5 s" or "30 images/s"; raises UserError."""
    told = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(ms|s|fps|images/s)\s*", text.lower())
    value = float(told[1]) if told else 0.0
    if not told or not value:
        raise UserError(f"{text!r} is no time for an image.", 'Say "20 ms", "0.5 s" or "30 images/s".')
    return value * UNITS[told[2]] if told[2] in UNITS else 1000 / value
