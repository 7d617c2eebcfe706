"""Training losses, normalized to be independent of how a batch is split over devices and accumulation steps.

Besides cross-entropy, also with smoothed labels, there are losses for datasets with rare classes or thin objects: class
weights, focal loss, weights at boundaries, online hard example mining, Dice, Tversky and Lovász. The last four are
computed per image and averaged over images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fastfcn.ops.class_overlap import upsampled_class_overlap
from fastfcn.ops.cross_entropy import (
    full_precision,
    summed_cross_entropy,
    upsampled_cross_entropy,
    upsampled_pixel_losses,
)
from fastfcn.utils.sizes import IGNORE_INDEX


@dataclass(frozen=True)
class CrossEntropy:
    """Every labeled pixel has the same weight."""


@dataclass(frozen=True)
class WeightedCrossEntropy:
    """Each pixel's cross-entropy times the weight of its class, divided by the number of pixels.

    If the mean of the weights over all pixels is 1, as from `weights_from_counts`, the learning rate stays valid.
    """

    weights: tuple[float, ...]


@dataclass(frozen=True)
class SmoothedCrossEntropy:
    """Cross-entropy with `smoothing` of the target spread over all classes (arXiv:1512.00567, section 7)."""

    smoothing: float


@dataclass(frozen=True)
class FocalLoss:
    """Each pixel's cross-entropy times (1 - p) ** `gamma`, p = probability of its class (arXiv:1708.02002, eq. 4)."""

    gamma: float


@dataclass(frozen=True)
class BoundaryCrossEntropy:
    """Each pixel's cross-entropy times `weight` if another class is at most `width` pixels away, else times 1.

    U-Net's weight map (arXiv:1505.04597, equation 2) with a step in place of its Gaussian of the distance. Distances
    are the larger of rows and columns. Ignored pixels are not another class.
    """

    weight: float
    width: int


@dataclass(frozen=True)
class HardPixels:
    """Mean cross-entropy of each image's hard pixels (online hard example mining, arXiv:1604.03540).

    Hard pixels are those whose true class has a probability below `threshold`, and at least the hardest `min_kept`
    (0 to 1) of the image's labeled pixels.
    """

    threshold: float
    min_kept: float


@dataclass(frozen=True)
class DiceLoss:
    """`dice` times 1 - Dice of each image, plus `cross_entropy` times cross-entropy (arXiv:1606.04797)."""

    dice: float
    cross_entropy: float


@dataclass(frozen=True)
class TverskyLoss:
    """`tversky` times 1 - Tversky index of each image (arXiv:1706.05721, equation 3), plus cross-entropy.

    `alpha` and `beta` are the weights of false positives and false negatives; 0.5 and 0.5 give Dice.
    """

    alpha: float
    beta: float
    tversky: float
    cross_entropy: float


@dataclass(frozen=True)
class LovaszLoss:
    """`lovasz` times Lovász-softmax of each image, plus `cross_entropy` times cross-entropy (arXiv:1705.08790)."""

    lovasz: float
    cross_entropy: float


PixelLoss = (
    CrossEntropy
    | WeightedCrossEntropy
    | SmoothedCrossEntropy
    | FocalLoss
    | BoundaryCrossEntropy
    | HardPixels
    | DiceLoss
    | TverskyLoss
    | LovaszLoss
)


@dataclass(frozen=True)
class ExtraLoss:
    """Loss of an extra output: "pixel" for logits (B, classes, h, w), "se" for logits (B, classes); and its weight."""

    kind: Literal["pixel", "se"]
    weight: float


@dataclass(frozen=True)
class LossTerms:
    """The losses of a network.

    `mean_over`: "all" divides cross-entropy by all pixels, ignored ones included, as mmsegmentation does by default
    (`avg_non_ignore=False`); "labeled" by those with a class. `pixels`: the loss of the main logits, and of extra
    outputs of kind "pixel". `extras`: the loss of each extra output by name.
    """

    mean_over: Literal["all", "labeled"]
    align_corners: bool
    pixels: PixelLoss = CrossEntropy()
    extras: Mapping[str, ExtraLoss] = field(default_factory=dict)


def segmentation_loss(
    logits: Tensor, extras: Mapping[str, Tensor], labels: Tensor, terms: LossTerms, pixels: Tensor, images: int
) -> dict[str, Tensor]:
    """The weighted losses of part of a batch: "main", those of `extras` by name, and their sum "loss".

    `logits`: (B, classes, h, w) at any stride; `extras`: as `ExtraLoss` says, those of weight 0 are left out;
    `labels`: (B, H, W), 255 = ignored; `pixels`, `images`: numbers to divide by, for this device's whole batch.
    """
    losses = {"main": pixel_loss(logits, labels, terms, pixels, images)}
    for name, output in extras.items():
        extra = terms.extras[name]
        if not extra.weight:
            continue
        match extra.kind:
            case "pixel":
                loss = pixel_loss(output, labels, terms, pixels, images)
            case "se":
                loss = se_loss(output, labels) / images
        losses[name] = extra.weight * loss
    losses["loss"] = torch.stack(list(losses.values())).sum()
    return losses


def pixel_loss(logits: Tensor, labels: Tensor, terms: LossTerms, pixels: Tensor, images: int) -> Tensor:
    """The pixel loss of logits (B, classes, h, w); arguments as for `segmentation_loss`."""
    corners = terms.align_corners
    match terms.pixels:
        case CrossEntropy():
            return summed_cross_entropy(logits, labels, corners, IGNORE_INDEX) / pixels
        case WeightedCrossEntropy(weights):
            return weighted_pixel_loss(logits, labels, corners, weights) / pixels
        case SmoothedCrossEntropy(smoothing):
            return smoothed_pixel_loss(logits, labels, corners, smoothing) / pixels
        case FocalLoss(gamma):
            return focal_loss(logits, labels, corners, gamma) / pixels
        case BoundaryCrossEntropy(weight, width):
            return boundary_pixel_loss(logits, labels, corners, weight, width) / pixels
        case HardPixels(threshold, min_kept):
            return hard_pixel_loss(logits, labels, corners, threshold, min_kept) / images
        case DiceLoss(weight, other):
            loss = weight * dice_loss(logits, labels, corners) / images
        case TverskyLoss(alpha, beta, weight, other):
            loss = weight * tversky_loss(logits, labels, corners, alpha, beta) / images
        case LovaszLoss(weight, other):
            loss = weight * lovasz_loss(logits, labels, corners) / images
    return loss + other * summed_cross_entropy(logits, labels, corners, IGNORE_INDEX) / pixels if other else loss


def weighted_pixel_loss(logits: Tensor, labels: Tensor, align_corners: bool, weights: Sequence[float]) -> Tensor:
    """Sum over the labeled pixels of cross-entropy times the weight of the pixel's class."""
    logits = full_precision(logits)
    table = logits.new_zeros(IGNORE_INDEX + 1)
    table[: len(weights)] = torch.tensor(weights, dtype=logits.dtype).to(table.device, non_blocking=True)
    return upsampled_cross_entropy(logits, labels, align_corners, IGNORE_INDEX, table[labels.long()])


def smoothed_pixel_loss(logits: Tensor, labels: Tensor, align_corners: bool, smoothing: float) -> Tensor:
    """Sum over the labeled pixels of cross-entropy with smoothed labels."""
    return upsampled_cross_entropy(full_precision(logits), labels, align_corners, IGNORE_INDEX, smoothing=smoothing)


def focal_loss(logits: Tensor, labels: Tensor, align_corners: bool, gamma: float) -> Tensor:
    """Sum over the labeled pixels of the focal loss."""
    return upsampled_cross_entropy(full_precision(logits), labels, align_corners, IGNORE_INDEX, focal_gamma=gamma)


def boundary_pixel_loss(logits: Tensor, labels: Tensor, align_corners: bool, weight: float, width: int) -> Tensor:
    """Sum over the labeled pixels of cross-entropy, times `weight` within `width` pixels of another class."""
    logits = full_precision(logits)
    weights = 1 + (weight - 1) * near_boundary(labels, width).to(logits.dtype)
    return upsampled_cross_entropy(logits, labels, align_corners, IGNORE_INDEX, weights)


def near_boundary(labels: Tensor, width: int) -> Tensor:
    """Pixels of `labels` (B, H, W) with two classes in the square of 2 * `width` + 1 pixels around them."""
    values = labels.to(torch.int16)
    ignored = labels == IGNORE_INDEX
    highest = _window_maximum(values.masked_fill(ignored, -1), width)
    lowest = -_window_maximum(-values, width)  # ignored pixels have the highest value already
    return (lowest < highest) & ~ignored


def _window_maximum(values: Tensor, width: int) -> Tensor:
    """Maximum over the square around each pixel, along columns, then rows: on a CPU much faster than max pooling."""
    for axis in (2, 1):
        result, size = values.clone(), values.shape[axis]
        for shift in range(1, min(width, size - 1) + 1):
            for start, other in ((0, shift), (shift, 0)):
                part = result.narrow(axis, start, size - shift)
                torch.maximum(part, values.narrow(axis, other, size - shift), out=part)
        values = result
    return values


def hard_pixel_loss(
    logits: Tensor, labels: Tensor, align_corners: bool, threshold: float, min_kept: float
) -> Tensor:  # fmt: skip
    """Sum over images of the mean cross-entropy of their hard pixels (see HardPixels); 0 for an unlabeled image.

    Cross-entropy is computed twice, in strips: to find the hard pixels, and for them.
    """
    logits = full_precision(logits)
    losses = upsampled_pixel_losses(logits.detach(), labels, align_corners, IGNORE_INDEX).flatten(1)
    labeled = (labels != IGNORE_INDEX).flatten(1)
    ranked = losses.masked_fill(~labeled, -1.0).sort(1, descending=True).values
    # gather instead of indexing: no GPU synchronization.
    last = (labeled.sum(1, keepdim=True) * min_kept).ceil().long().clamp(min=1) - 1
    limit = torch.minimum(ranked.gather(1, last), -losses.new_full((), threshold).log())
    hard = labeled & (losses >= limit)
    weights = hard / hard.sum(1, keepdim=True).clamp(min=1)
    return upsampled_cross_entropy(logits, labels, align_corners, IGNORE_INDEX, weights.view(labels.shape))


def dice_loss(logits: Tensor, labels: Tensor, align_corners: bool) -> Tensor:
    """Sum over images of 1 - soft Dice, averaged over the classes in the image; 0 for an unlabeled image.

    Dice of a class is 2 * overlap / (predicted + true) over the image's labeled pixels (`upsampled_class_overlap`).
    The logits never exist at full size.
    """
    overlap, predicted, true = upsampled_class_overlap(full_precision(logits), labels, align_corners, IGNORE_INDEX)
    return _mean_over_present(1 - 2 * overlap / (predicted + true).clamp(min=1e-12), true)


def tversky_loss(logits: Tensor, labels: Tensor, align_corners: bool, alpha: float, beta: float) -> Tensor:
    """Sum over images of 1 - Tversky index, averaged over the classes in the image; 0 for an unlabeled image.

    The index of a class is overlap / (overlap + alpha * false positives + beta * false negatives), with soft counts
    over the image's labeled pixels. The logits never exist at full size.
    """
    overlap, predicted, true = upsampled_class_overlap(full_precision(logits), labels, align_corners, IGNORE_INDEX)
    total = overlap + alpha * (predicted - overlap) + beta * (true - overlap)
    return _mean_over_present(1 - overlap / total.clamp(min=1e-12), true)


def _mean_over_present(losses: Tensor, true: Tensor) -> Tensor:
    """Sum over images of the mean of `losses` (B, C) over the classes in the image, which have `true` > 0 pixels."""
    present = true > 0
    return ((losses * present).sum(1) / present.sum(1).clamp(min=1)).sum()


def lovasz_loss(logits: Tensor, labels: Tensor, align_corners: bool) -> Tensor:
    """Sum over images of Lovász-softmax, averaged over the classes in the image; 0 for an unlabeled image.

    Unlike the other losses it computes full-size logits, for one image at a time, since it sorts the pixels of each
    class. The backward pass recomputes them.
    """
    parts = []
    for image, label in zip(full_precision(logits), labels, strict=True):
        parts.append(
            checkpoint(_image_lovasz, image, label, align_corners, use_reentrant=False, preserve_rng_state=False)
        )
    return torch.stack(parts).sum()  # type: ignore[arg-type]


def _image_lovasz(logits: Tensor, label: Tensor, align_corners: bool) -> Tensor:
    full = F.interpolate(logits[None], size=label.shape, mode="bilinear", align_corners=align_corners)[0]
    labeled = label != IGNORE_INDEX
    share = full.softmax(0)
    if share.device.type != "cpu":
        return _lovasz_of_all_classes(share, label, labeled)
    losses = []
    for index in label[labeled].unique().tolist():
        true = (label == index)[labeled].to(share.dtype)
        losses.append(_class_lovasz((true - share[index][labeled]).abs(), true))
    return torch.stack(losses).mean() if losses else 0.0 * logits.sum()


def _lovasz_of_all_classes(share: Tensor, label: Tensor, labeled: Tensor) -> Tensor:
    """The mean over the classes in `label` (H, W), without the shapes that a GPU would have to be waited for.

    Unlabeled pixels have an error of 0: sorted last, they change neither the sums before them nor the loss. Missing
    classes have a weight of 0.
    """
    losses, present = [], []
    for index, probability in enumerate(share):
        true = ((label == index) & labeled).to(share.dtype).flatten()
        errors = (true - probability.flatten()).abs().masked_fill(~labeled.flatten(), 0.0)
        losses.append(_class_lovasz(errors, true))
        present.append(true.amax())
    weights = torch.stack(present)
    return (torch.stack(losses) * weights).sum() / weights.sum().clamp(min=1)


def _class_lovasz(errors: Tensor, true: Tensor) -> Tensor:
    """The loss of one class for the errors of its probabilities (pixels,), 0-1; `true`: 1 for its pixels, else 0."""
    ranked, order = errors.sort(descending=True)
    return (ranked * _lovasz_slopes(true[order])).sum()


def _lovasz_slopes(true: Tensor) -> Tensor:
    """Gradient of the Jaccard loss for errors in descending order (algorithm 1 of arXiv:1705.08790)."""
    missed = true.cumsum(0)
    jaccard = 1 - (true.sum() - missed) / (true.sum() + (1 - true).cumsum(0))
    return torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])


def se_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum over images of the mean binary cross-entropy of which classes the crop contains (EncNet's SE loss).

    `logits`: (B, classes); `labels`: (B, H, W).
    """
    logits = logits.float()
    images, classes = logits.shape
    # One column for every label value: counting the labels would make a GPU synchronize.
    targets = logits.new_zeros(images, max(classes, IGNORE_INDEX + 1))
    targets = targets.scatter_(1, labels.flatten(1).long(), 1.0)[:, :classes]
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / classes


def weights_from_counts(counts: Sequence[int], power: float) -> tuple[float, ...]:
    """Class weights from the number of pixels of each class: count ** -power, scaled to a mean over all pixels of 1.

    `power`: 0 gives equal weights, 1 gives each class the same total weight. A class without pixels has weight 1.
    """
    raised = [count**-power if count else 0.0 for count in counts]
    mean = sum(count * weight for count, weight in zip(counts, raised, strict=True)) / max(sum(counts), 1)
    return tuple(weight / mean if weight else 1.0 for weight in raised)
