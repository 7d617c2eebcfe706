"""The networks that `profile` compares: a recipe and its dilated baseline, or all candidates for a latency budget."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from fastfcn import build, recipes
from fastfcn.bench.flops import count_flops
from fastfcn.bench.stages import parameters
from fastfcn.errors import RecipeError, UserError
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.sizes import Size

WIDTHS = (96, 128, 256, 512)  # of JPU, tried in addition to the recipe's
SIZES: tuple[Size, ...] = ((512, 1024), (256, 512))
DILATED = ("backbone.strides=[1, 2, 1, 1]", "backbone.dilations=[1, 1, 2, 4]", 'neck={kind="none"}')
COMPARED = ("backbone", "neck", "head")
UNITS = {"ms": 1.0, "s": 1000.0}  # milliseconds


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network, the names of the recipes that have it, and an image size.

    `share`: JPU's width divided by the recipe's, at most 1; `published`: the best published mIoU of the recipes in
    percent, None if the network was changed.
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
class PartFlops:
    """FLOPs of candidates by part, counted on the meta device; parts that candidates share are counted once."""

    _backbones: dict[str, Any] = field(default_factory=dict)
    _counted: dict[tuple, tuple[int, Any]] = field(default_factory=dict)  # part -> (FLOPs, output)

    def backbone(self, recipe: Recipe) -> Any:
        """The backbone of a recipe; call it on the meta device."""
        key = backbone_key(recipe)
        if key not in self._backbones:
            self._backbones[key] = build.backbone(recipe)
        return self._backbones[key]

    def of(self, candidate: Candidate) -> dict[str, float]:
        """FLOPs of "backbone", "neck" and "head", and the number of "logits" (classes x height x width)."""
        recipe, (height, width) = candidate.recipe, candidate.size
        start = backbone_key(recipe), candidate.size
        with torch.device("meta"), torch.no_grad():
            backbone = self.backbone(recipe)
            backbone_flops, stages = self._count(
                start, lambda: backbone, torch.empty(1, recipe.channels, height, width)
            )
            channels = backbone.feature_info.channels()
            neck_flops, joined = self._count(
                (*start, recipe.neck), lambda: build.neck(recipe, channels[1:]), stages[1:]
            )
            inputs = build.head_channels(recipe, joined.shape[1], channels)
            reads_stages = build.needs_stages(recipe) or build.needs_finest(recipe)
            features = stages if build.needs_stages(recipe) else (joined, stages[0]) if reads_stages else joined
            key = recipe.head, candidate.classes, (*start, joined.shape) if reads_stages else joined.shape
            head_flops, _ = self._count(key, lambda: build.head(recipe, inputs, candidate.classes), features)
        logits = candidate.classes * height * width
        return {"backbone": backbone_flops, "neck": neck_flops, "head": head_flops, "logits": logits}

    def _count(self, key: tuple, create: Callable[[], nn.Module], features: Any) -> tuple[int, Any]:
        if key not in self._counted:
            part, outputs = _without_norms(create().eval()), []
            self._counted[key] = count_flops(lambda inputs: outputs.append(part(inputs)), features), outputs[0]
        return self._counted[key]

    def backbone_parameters(self, recipe: Recipe) -> int:
        """Number of parameters of the backbone, which ranks backbones by size; without norms if `of` ran before."""
        with torch.device("meta"):
            return sum(map(parameters, self.backbone(recipe).modules()))


def _without_norms(part: nn.Module) -> nn.Module:
    """`part` without batch norms, in place: they have no FLOPs, but take most of the time on the meta device."""
    for parent in list(part.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, nn.Identity())
    return part


def backbone_key(recipe: Recipe) -> str:
    """A key that is equal for recipes whose backbones have the same FLOPs."""
    return recipe.backbone.model_dump_json(exclude={"pretrained"})


def candidates(names: Sequence[str], changes: Sequence[str], sizes: Sequence[Size]) -> list[Candidate]:
    """Each distinct network of the recipes `names` at each of `sizes`; networks with JPU also at each of WIDTHS."""
    groups: dict[tuple, list[Recipe]] = {}
    for recipe in (recipes.load(name, changes) for name in names):
        classes = len(build.description(recipe).classes)
        groups.setdefault((backbone_key(recipe), recipe.neck, recipe.head, classes), []).append(recipe)
    result = []
    for (*_, classes), same in groups.items():
        scores = [recipe.published.miou for recipe in same if recipe.published and recipe.published.miou]
        same_names = tuple(recipe.name for recipe in same)
        for recipe, share in _widths(same[0]):
            published = max(scores) if scores and recipe is same[0] and not changes else None
            result += [Candidate(same_names, recipe, size, classes, share, published) for size in sizes]
    return result


def _widths(recipe: Recipe) -> list[tuple[Recipe, float]]:
    """The recipe, and copies with other widths of JPU; each with its width divided by the recipe's, at most 1."""
    if recipe.neck.kind != "jpu":
        return [(recipe, 1.0)]
    default = recipe.neck.width
    return [(recipe, 1.0)] + [
        (recipe.model_copy(update={"neck": recipe.neck.model_copy(update={"width": width})}), min(width / default, 1.0))
        for width in WIDTHS
        if width != default
    ]


def candidate_sizes(size: Size | None) -> tuple[Size, ...]:
    """`size`, its half and its quarter; by default SIZES."""
    if size is None:
        return SIZES
    return tuple((max(1, size[0] // divisor), max(1, size[1] // divisor)) for divisor in (1, 2, 4))


def parse_latency(text: str) -> float:
    """Milliseconds per image from a text such as "20 ms", "0.5 s" or "30 images/s". Raises UserError."""
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(ms|s|fps|images/s)\s*", text.lower())
    value = float(match[1]) if match else 0.0
    if not match or not value:
        raise UserError(f"Invalid latency budget {text!r}.", 'Write "20 ms", "0.5 s" or "30 images/s".')
    return value * UNITS[match[2]] if match[2] in UNITS else 1000 / value


def dilated_baseline(recipe: Recipe) -> Recipe | None:
    """The same backbone and head at stride 8, with dilation instead of JPU.

    A shipped recipe if one has this network and data, else a changed copy. None for a recipe without JPU, and for
    backbones whose strides cannot be set.
    """
    if recipe.neck.kind == "none" or recipe.backbone.kind != "resnet":
        return None
    baseline = recipe.override([*DILATED, f'name="{recipe.name}_dilated"'])
    try:
        with torch.device("meta"):
            build.backbone(baseline)
    except RecipeError:
        return None
    shipped = (recipes.load(name) for name in recipes.names())
    return next((candidate for candidate in shipped if _same_network(candidate, baseline)), baseline)


def _same_network(first: Recipe, second: Recipe) -> bool:
    same_data = (first.data.dataset, first.data.crop) == (second.data.dataset, second.data.crop)
    return same_data and all(getattr(first, part) == getattr(second, part) for part in COMPARED)
