"""Recipe -> parts: the only module that builds networks, losses, datasets and optimizers from a recipe."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastfcn.data.bands import BandReader
from fastfcn.data.class_crops import ClassCrops
from fastfcn.data.dataset import Dataset
from fastfcn.data.description import DatasetDescription, load_description
from fastfcn.data.images import RGB, ImageReader
from fastfcn.data.mixing import CopyPaste, CutMix, Mixing
from fastfcn.data.packed import is_packed, open_packed
from fastfcn.data.rand_augment import RandAugment
from fastfcn.data.transforms import TrainTransform
from fastfcn.errors import RecipeError
from fastfcn.losses import (
    BoundaryCrossEntropy,
    CrossEntropy,
    DiceLoss,
    ExtraLoss,
    FocalLoss,
    HardPixels,
    LossTerms,
    LovaszLoss,
    PixelLoss,
    SmoothedCrossEntropy,
    TverskyLoss,
    WeightedCrossEntropy,
)
from fastfcn.models.backbone import (
    USE_ANOTHER,
    layer_distances,
    resnet_backbone,
    stage_parameters,
    without_decay,
)
from fastfcn.models.backbone import backbone as any_backbone
from fastfcn.models.heads import HEADS, FCNHead, Head
from fastfcn.models.jpu import JPU, NoNeck
from fastfcn.models.jpu_x import JPUX
from fastfcn.models.layers import openmmlab_weights
from fastfcn.models.segmenter import Segmenter
from fastfcn.recipes.recipe import Recipe, load
from fastfcn.utils.spelling import did_you_mean


def description(recipe: Recipe, data: str | Path | None = None) -> DatasetDescription:
    """Description of the recipe's dataset: from the catalog, or from a TOML file.

    `data`: the data to train on; if it is packed and the TOML file is missing, its own description is used.
    """
    missing = recipe.dataset.endswith(".toml") and not Path(recipe.dataset).exists()
    if data is not None and missing and is_packed(data):
        return open_packed(data).manifest.description
    return load_description(recipe.dataset)


def dataset(recipe: Recipe, described: DatasetDescription, root: str | Path, split: str, train: bool) -> Dataset:
    """One split of the data under `root`, with the recipe's augmentation if `train`. Raises RecipeError."""
    images = image_reader(recipe, described)
    if not train:
        return Dataset(described, root, split, images=images)
    return Dataset(described, root, split, train_transform(recipe), mixing=mixing(recipe, described), images=images)


def image_reader(recipe: Recipe, described: DatasetDescription) -> ImageReader:
    """What reads the images: RGB, or the recipe's bands of the dataset's files. Raises RecipeError."""
    chosen, bands = recipe.data.bands, described.bands
    if chosen is None and bands is None:
        return RGB
    if bands is None:
        raise RecipeError(
            f"{recipe.name}: data.bands chooses bands, but the description of {described.name} has none.",
            "Add bands to its .toml file: bands = { names = [...], dtype = ... }; `fastfcn init --bands` writes it.",
        )
    if chosen is None:
        raise RecipeError(
            f"{recipe.name}: the images of {described.name} have the bands {', '.join(bands.names)}; the recipe is for "
            "RGB images of 8 bits.",
            "Add data.bands, and data.mean and data.std with a number for each; `fastfcn init` writes them.",
        )
    try:
        return BandReader(bands, chosen, recipe.data.mean, recipe.data.std)
    except ValueError as error:
        raise RecipeError(f"{recipe.name}: data.bands: {error}.", f"Bands: {', '.join(bands.names)}") from error


def mixing(recipe: Recipe, described: DatasetDescription) -> Mixing | None:
    """What the recipe mixes into its samples, or None. Raises RecipeError for classes that the dataset lacks."""
    mix, names = recipe.mix, described.class_names
    match mix.kind:
        case "cutmix":
            return CutMix(mix.probability, mix.alpha)
        case "copy_paste":
            for name in mix.classes:
                if name not in names:
                    raise RecipeError(
                        f"{recipe.name}: mix.classes: {name!r} is not a class of {described.name}"
                        f"{did_you_mean(name, names) or '.'}",
                        f"Classes: {', '.join(names)}",
                    )
            return CopyPaste(mix.probability, tuple(names.index(name) for name in mix.classes))
        case "none":
            return None


def train_transform(recipe: Recipe) -> TrainTransform:
    """The augmentation of single images of the recipe."""
    data, crops, colors = recipe.data, recipe.crops, recipe.colors
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
        crops=ClassCrops(crops.probability, crops.power) if crops.kind == "classes" else None,
        colors=RandAugment(colors.operations, colors.magnitude) if colors.kind == "rand_augment" else None,
    )


def create(name: str | Path | Recipe, classes: int | None = None) -> Segmenter:
    """The network of a recipe (a `Recipe`, its name or its path) with random weights.

    `classes`: number of classes (default: those of the recipe's dataset). Raises RecipeError.
    """
    recipe = name if isinstance(name, Recipe) else load(name)
    return network(recipe, classes or len(description(recipe).classes))


def network(recipe: Recipe, classes: int, training: bool = False) -> Segmenter:
    """The network of the recipe with random weights. Raises RecipeError if the recipe does not fit `classes`.

    `training`: with the recipe's drop path, which has no weights and does nothing in evaluation.
    """
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
    stages = backbone(recipe, training)
    channels = stages.feature_info.channels()
    upsampling = neck(recipe, channels[1:])
    decoder = head(recipe, head_channels(recipe, upsampling.out_channels, channels), classes)
    auxiliary = auxiliary_head(recipe, channels, classes)
    if recipe.weight_init == "openmmlab":
        openmmlab_weights(nn.ModuleList([upsampling, decoder] + ([auxiliary] if auxiliary else [])))
    stage = recipe.auxiliary.stage if recipe.auxiliary.kind == "fcn" else 0
    return Segmenter(stages, upsampling, decoder, auxiliary, stage)


def backbone(recipe: Recipe, training: bool = False) -> Any:
    """The backbone of the recipe with random weights. Raises RecipeError if timm cannot provide it.

    `training`: with the recipe's drop path.
    """
    part = recipe.backbone
    drop_path = recipe.drop_path.rate if training and recipe.drop_path.kind == "linear" else 0.0
    try:
        match part.kind:
            case "resnet":
                return resnet_backbone(part.name, part.strides, part.dilations, part.style, drop_path, recipe.channels)
            case "pyramid":
                return any_backbone(part.name, drop_path, recipe.channels)
    except (RuntimeError, ValueError, AttributeError, KeyError) as error:
        message = f"{recipe.name}: backbone.name = {part.name!r} cannot be used as kind {part.kind!r}: {error}"
        raise RecipeError(message, getattr(error, "hint", USE_ANOTHER)) from error


def check_backbone(recipe: Recipe) -> None:
    """Raise RecipeError if the recipe's backbone cannot be used: without weights or data, in about a second."""
    with torch.device("meta"):
        backbone(recipe, training=True)


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


def needs_finest(recipe: Recipe) -> bool:
    """Whether the head of the recipe reads the first stage of the backbone in addition to the neck's map."""
    return HEADS[recipe.head.kind].needs_finest


def head_channels(recipe: Recipe, joined: int, stages: Sequence[int]) -> int | Sequence[int]:
    """Channels of the maps that the recipe's head reads. `joined`: of the neck's map, `stages`: of the backbone's."""
    if needs_stages(recipe):
        return stages
    return (joined, stages[0]) if needs_finest(recipe) else joined


def head(recipe: Recipe, channels: int | Sequence[int], classes: int) -> Head:
    """The head of the recipe. `channels`: of the maps that it reads, see `head_channels`."""
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
        case "smoothed_cross_entropy":
            return SmoothedCrossEntropy(loss.smoothing)
        case "focal":
            return FocalLoss(loss.gamma)
        case "boundary":
            return BoundaryCrossEntropy(loss.weight, loss.width)
        case "ohem":
            return HardPixels(loss.threshold, loss.min_kept)
        case "dice":
            return DiceLoss(loss.dice, loss.cross_entropy)
        case "tversky":
            return TverskyLoss(loss.alpha, loss.beta, loss.tversky, loss.cross_entropy)
        case "lovasz":
            return LovaszLoss(loss.lovasz, loss.cross_entropy)


def with_steps(recipe: Recipe, images: int) -> Recipe:
    """The recipe with a number of steps, also if it has epochs; `images`: of the training split."""
    if recipe.optim.epochs is None:
        return recipe
    steps = math.ceil(recipe.optim.epochs * images / recipe.optim.batch)
    return recipe.override([f"optim.steps={steps}"])


def optimizer(recipe: Recipe, model: Segmenter, fused: bool = False) -> torch.optim.Optimizer:
    """The optimizer of the recipe. `fused`: one kernel per step, for a network on a GPU."""
    settings, groups = recipe.optim, parameter_groups(recipe, model)
    match settings.kind:
        case "sgd":
            return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)
        case "adamw":
            return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=fused)


def parameter_groups(recipe: Recipe, model: Segmenter) -> list[dict[str, Any]]:
    """Parameters by learning rate and weight decay, those of the backbone first. Raises RecipeError.

    The rate of a group is `learning_rate(recipe, step, group["factor"]) * group["lr_scale"]`.
    """
    settings, name = recipe.optim, recipe.backbone.name
    try:
        distances = layer_distances(name, model.backbone) if settings.layer_decay != 1 else {}
    except ValueError as error:
        raise RecipeError(f"{recipe.name}: {error}.", "Write optim.layer_decay=1.0") from error
    exempt = set() if settings.decay_norm_and_bias else without_decay(name, model.backbone)
    groups: dict[tuple, dict[str, Any]] = {}
    for key, parameter in model.named_parameters():
        inside, own_name = key.startswith("backbone."), key.removeprefix("backbone.")
        factor = 1.0 if inside else settings.head_lr_factor
        scale = settings.layer_decay ** distances.get(own_name, 0) if inside else 1.0
        decays = settings.decay_norm_and_bias or (parameter.ndim > 1 and not (inside and own_name in exempt))
        decay = settings.weight_decay if decays else 0.0
        group = {"params": [], "factor": factor, "lr_scale": scale, "weight_decay": decay}
        groups.setdefault((inside, scale, decay), group)["params"].append(parameter)
    return list(groups.values())


def frozen_parameters(recipe: Recipe) -> set[str]:
    """Names, in the network, of the parameters that the recipe freezes: of the stem and the first stages."""
    if recipe.freeze.kind == "none":
        return set()
    return {
        f"backbone.{name}" for name in stage_parameters(lambda: backbone(recipe), recipe.freeze.stages, recipe.channels)
    }


def learning_rate(recipe: Recipe, step: int, factor: float = 1.0) -> float:
    """The schedule's rate of `step` = 0, 1, ..., falling from `lr` to `min_lr`, after a linear warm-up.

    The poly schedule reaches it at the last step (mmengine's PolyLR, stepped after every iteration, has the length
    `steps - 1`), or would one step later (FastFCN's own code has the length `steps`).
    """
    schedule, start = recipe.schedule, recipe.optim.lr * factor
    match schedule.kind:
        case "poly":
            length = recipe.steps - 1 if schedule.end == "last_step" else recipe.steps
            share = max(1 - step / max(length, 1), 0.0) ** schedule.power
        case "cosine":
            share = 0.5 + 0.5 * math.cos(math.pi * min(step / max(recipe.steps - 1, 1), 1.0))
    rate = (start - schedule.min_lr) * share + schedule.min_lr
    return rate * min(1.0, (step + 1) / (schedule.warmup_steps + 1))
