"""Recipe -> parts: the only module that builds networks, losses, datasets and optimizers from a recipe."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastfcn.data.dataset import Dataset
from fastfcn.data.description import DatasetDescription, load_description
from fastfcn.data.transforms import TrainTransform
from fastfcn.errors import RecipeError
from fastfcn.losses import (
    CrossEntropy,
    DiceLoss,
    ExtraLoss,
    HardPixels,
    LossTerms,
    LovaszLoss,
    PixelLoss,
    WeightedCrossEntropy,
)
from fastfcn.models.backbone import backbone as any_backbone
from fastfcn.models.backbone import resnet_backbone
from fastfcn.models.heads import HEADS, FCNHead, Head
from fastfcn.models.jpu import JPU, NoNeck
from fastfcn.models.jpu_x import JPUX
from fastfcn.models.layers import openmmlab_weights
from fastfcn.models.segmenter import Segmenter
from fastfcn.recipes.recipe import Recipe, load


def description(recipe: Recipe) -> DatasetDescription:
    """Description of the recipe's dataset: from the catalog, or from a TOML file."""
    return load_description(recipe.dataset)


def dataset(recipe: Recipe, described: DatasetDescription, root: str | Path, split: str, train: bool) -> Dataset:
    """One split of the data under `root`, with the recipe's augmentation if `train`."""
    return Dataset(described, root, split, train_transform(recipe) if train else None)


def train_transform(recipe: Recipe) -> TrainTransform:
    """The augmentation of the recipe."""
    data = recipe.data
    return TrainTransform(
        base_size=data.base_size,
        scale_range=data.scale_range,
        crop=data.crop,
        cat_max_ratio=data.cat_max_ratio,
        flip=data.flip,
        photometric_distortion=data.photometric_distortion,
        mean=data.mean,
        std=data.std,
        scale_by=data.scale_by,
        interpolation=data.interpolation,
        rotate=data.rotate,
        padding=data.padding,
        blur=data.blur,
    )


def create(name: str | Path | Recipe, classes: int | None = None) -> Segmenter:
    """The network of a recipe (a `Recipe`, its name or its path) with random weights.

    `classes`: number of classes (default: those of the recipe's dataset). Raises RecipeError.
    """
    recipe = name if isinstance(name, Recipe) else load(name)
    return network(recipe, classes or len(description(recipe).classes))


def network(recipe: Recipe, classes: int) -> Segmenter:
    """The network of the recipe with random weights. Raises RecipeError if the recipe does not fit `classes`."""
    if recipe.loss.kind == "weighted_cross_entropy" and len(recipe.loss.weights) != classes:
        number = len(recipe.loss.weights)
        raise RecipeError(
            f"{recipe.name}: loss.weights has {number} numbers, but the dataset has {classes} classes.",
            "Write one weight per class, in the order of the classes.",
        )
    if needs_stages(recipe) and recipe.neck.kind != "none":
        raise RecipeError(
            f'{recipe.name}: head.kind = "{recipe.head.kind}" reads all stages of the backbone and no neck, '
            f'but neck.kind = "{recipe.neck.kind}".',
            'Write neck={kind="none"}',
        )
    stages = backbone(recipe)
    channels = stages.feature_info.channels()
    upsampling = neck(recipe, channels[1:])
    decoder = head(recipe, channels if needs_stages(recipe) else upsampling.out_channels, classes)
    auxiliary = auxiliary_head(recipe, channels, classes)
    if recipe.weight_init == "openmmlab":
        openmmlab_weights(nn.ModuleList([upsampling, decoder] + ([auxiliary] if auxiliary else [])))
    stage = recipe.auxiliary.stage if recipe.auxiliary.kind == "fcn" else 0
    return Segmenter(stages, upsampling, decoder, auxiliary, stage)


def backbone(recipe: Recipe) -> Any:
    """The backbone of the recipe with random weights. Raises RecipeError if timm cannot provide it."""
    part = recipe.backbone
    try:
        match part.kind:
            case "resnet":
                return resnet_backbone(part.name, part.strides, part.dilations, part.style)
            case "pyramid":
                return any_backbone(part.name)
    except (RuntimeError, ValueError, AttributeError, KeyError) as error:
        raise RecipeError(
            f"{recipe.name}: backbone.name = {part.name!r} cannot be used as kind {part.kind!r}: {error}",
            "List timm's networks: python -c \"import timm; print(timm.list_models('resnet*'))\"",
        ) from error


def neck(recipe: Recipe, channels: Sequence[int]) -> JPU | JPUX | NoNeck:
    """The neck of the recipe for maps of `channels`, finest first."""
    part = recipe.neck
    match part.kind:
        case "jpu":
            return JPU(channels, part.width, part.dilations, part.align_corners)
        case "jpu_x":
            return JPUX(channels, part.width, part.dilations, part.groups, part.align_corners)
        case "none":
            return NoNeck(channels)


def needs_stages(recipe: Recipe) -> bool:
    """Whether the head of the recipe reads all four stages of the backbone, instead of the neck's map."""
    return HEADS[recipe.head.kind].needs_stages


def head(recipe: Recipe, channels: int | Sequence[int], classes: int) -> Head:
    """The head of the recipe. `channels`: of the map that it reads, or of the four maps if it `needs_stages`."""
    kind: Any = HEADS[recipe.head.kind]
    weights = {f"{name}_loss_weight" for name in kind.extra_losses}
    return kind(channels, classes, **recipe.head.model_dump(exclude={"kind", *weights}))


def auxiliary_head(recipe: Recipe, channels: Sequence[int], classes: int) -> FCNHead | None:
    """The auxiliary head of the recipe, or None."""
    part = recipe.auxiliary
    match part.kind:
        case "fcn":
            return FCNHead(channels[part.stage], classes, part.width, part.depth, part.kernel, part.dropout)
        case "none":
            return None


def loss_terms(recipe: Recipe) -> LossTerms:
    """The losses of the recipe: the pixel loss, and kind and weight of the loss of each extra output."""
    loss = recipe.loss
    # Hard example mining averages within each image, so the number of pixels is not used.
    mean_over = "labeled" if loss.kind == "ohem" else loss.mean_over
    extras = {
        name: ExtraLoss(kind, getattr(recipe.head, f"{name}_loss_weight"))
        for name, kind in HEADS[recipe.head.kind].extra_losses.items()
    }
    if recipe.auxiliary.kind != "none":
        extras["auxiliary"] = ExtraLoss("pixel", recipe.auxiliary.loss_weight)
    return LossTerms(mean_over, recipe.head.align_corners, pixel_loss(recipe), extras)


def pixel_loss(recipe: Recipe) -> PixelLoss:
    """The loss of the main logits, and of extra outputs that have a pixel loss."""
    loss = recipe.loss
    match loss.kind:
        case "cross_entropy":
            return CrossEntropy()
        case "weighted_cross_entropy":
            return WeightedCrossEntropy(loss.weights)
        case "ohem":
            return HardPixels(loss.threshold, loss.min_kept)
        case "dice":
            return DiceLoss(loss.dice, loss.cross_entropy)
        case "lovasz":
            return LovaszLoss(loss.lovasz, loss.cross_entropy)


def optimizer(recipe: Recipe, model: Segmenter) -> torch.optim.SGD:
    """SGD with weight decay on all parameters; lr is `head_lr_factor` times as high outside the backbone."""
    settings = recipe.optim
    inside = list(model.backbone.parameters())
    outside = [parameter for name, parameter in model.named_parameters() if not name.startswith("backbone.")]
    groups = [{"params": inside, "factor": 1.0}, {"params": outside, "factor": settings.head_lr_factor}]
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay)


def learning_rate(recipe: Recipe, step: int, factor: float = 1.0) -> float:
    """Poly schedule: the rate of `step` = 0, 1, ..., falling to `min_lr`, after a linear warm-up.

    It is reached at the last step (mmengine's PolyLR, stepped after every iteration, has the length `steps - 1`), or
    would be one step later (FastFCN's own code has the length `steps`).
    """
    optim = recipe.optim
    start = optim.lr * factor
    length = optim.steps - 1 if optim.schedule_end == "last_step" else optim.steps
    left = 1 - step / max(length, 1)
    rate = (start - optim.min_lr) * max(left, 0.0) ** optim.power + optim.min_lr
    return rate * min(1.0, (step + 1) / (optim.warmup_steps + 1))
