"""Training losses, normalised so that they come out the same however a batch is split over devices and parts."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn.ops.cross_entropy import upsampled_cross_entropy

IGNORED = 255


@dataclass(frozen=True)
class LossTerms:
    """Weights of the auxiliary and presence (SE) losses, and what the pixel losses are averaged over.

    `mean_over`: "all" divides by all pixels, ignored ones included, as mmsegmentation does by default
    (`avg_non_ignore=False`); "labelled" by those with a class.
    """

    mean_over: str
    auxiliary: float
    presence: float
    align_corners: bool


def pixel_loss(scores: Tensor, labels: Tensor, align_corners: bool) -> Tensor:
    """Sum of cross-entropy over the labelled pixels, as if the scores were resized to the labels' size first."""
    if scores.shape[-2:] == labels.shape[-2:]:
        return F.cross_entropy(scores.float(), labels.long(), ignore_index=IGNORED, reduction="sum")
    return upsampled_cross_entropy(scores.float(), labels, align_corners, IGNORED)


def presence_loss(presence: Tensor, labels: Tensor) -> Tensor:
    """Sum over images of the mean binary cross-entropy of which classes the crop holds (EncNet's SE loss)."""
    presence = presence.float()
    images, classes = presence.shape
    # A column for each value of a label: counting would make a GPU wait for how many there are.
    held = presence.new_zeros(images, max(classes, IGNORED + 1))
    held = held.scatter_(1, labels.flatten(1).long(), 1.0)[:, :classes]
    return F.binary_cross_entropy_with_logits(presence, held, reduction="sum") / classes


def segmentation_loss(
    main: Tensor, auxiliary: Tensor | None, presence: Tensor | None, labels: Tensor, terms: LossTerms,
    pixels: Tensor, images: int,
) -> dict[str, Tensor]:  # fmt: skip
    """The weighted losses of part of a batch by name, with their sum under "loss".

    `main`, `auxiliary`: (B, classes, h, w) at any stride; `presence`: (B, classes); `labels`: (B, H, W), 255 =
    ignored; `pixels`, `images`: what the sums are divided by, over the whole batch of this device.
    """
    losses = {"main": pixel_loss(main, labels, terms.align_corners) / pixels}
    if auxiliary is not None:
        losses["auxiliary"] = terms.auxiliary * pixel_loss(auxiliary, labels, terms.align_corners) / pixels
    if presence is not None and terms.presence:
        losses["presence"] = terms.presence * presence_loss(presence, labels) / images
    losses["loss"] = torch.stack(list(losses.values())).sum()
    return losses
