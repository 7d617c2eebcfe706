"""Losses for rare classes as plain formulas on full-size logits, a sum over pixels or images each."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn.utils.sizes import IGNORE_INDEX


def full_size(logits: Tensor, labels: Tensor, align_corners: bool) -> Tensor:
    return F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=align_corners)


def plain_weighted(logits: Tensor, labels: Tensor, align_corners: bool, weights: tuple[float, ...]) -> Tensor:
    full = full_size(logits, labels, align_corners)
    table = torch.tensor(weights, dtype=logits.dtype)
    return F.cross_entropy(full, labels.long(), table, ignore_index=IGNORE_INDEX, reduction="sum")


def plain_smoothed(logits: Tensor, labels: Tensor, align_corners: bool, smoothing: float) -> Tensor:
    full = full_size(logits, labels, align_corners)
    options = {"ignore_index": IGNORE_INDEX, "reduction": "sum", "label_smoothing": smoothing}
    return F.cross_entropy(full, labels.long(), **options)


def plain_focal(logits: Tensor, labels: Tensor, align_corners: bool, gamma: float) -> Tensor:
    logs = full_size(logits, labels, align_corners).log_softmax(1).movedim(1, -1)[labels != IGNORE_INDEX]
    true = logs.gather(1, labels[labels != IGNORE_INDEX].long()[:, None])
    return -((1 - true.exp()) ** gamma * true).sum()


def plain_boundary(logits: Tensor, labels: Tensor, align_corners: bool, weight: float, width: int) -> Tensor:
    """Pixel by pixel: is there another class in the square around it?"""
    losses = F.cross_entropy(
        full_size(logits, labels, align_corners), labels.long(), ignore_index=IGNORE_INDEX, reduction="none"
    )
    total = logits.sum() * 0
    for image, y, x in torch.nonzero(labels != IGNORE_INDEX).tolist():
        around = labels[image, max(y - width, 0) : y + width + 1, max(x - width, 0) : x + width + 1]
        other = (around != labels[image, y, x]) & (around != IGNORE_INDEX)
        total = total + losses[image, y, x] * (weight if other.any() else 1.0)
    return total


def plain_hard(logits: Tensor, labels: Tensor, align_corners: bool, threshold: float, min_kept: float) -> Tensor:
    """Image by image and pixel by pixel: those with low probability, but at least a minimum number."""
    total = logits.sum() * 0
    for full, label in zip(full_size(logits, labels, align_corners), labels, strict=True):
        pixels = [(y, x) for y, x in torch.nonzero(label != IGNORE_INDEX).tolist()]
        losses = sorted((-full[:, y, x].log_softmax(0)[int(label[y, x])] for y, x in pixels), key=lambda e: -e.item())
        hard = [loss for loss in losses if torch.exp(-loss) < threshold]
        least = -int(-len(losses) * min_kept // 1)  # rounded up
        kept = max(hard, losses[:least], key=len)
        total = total + (torch.stack(kept).mean() if kept else 0.0)
    return total


def plain_dice(logits: Tensor, labels: Tensor, align_corners: bool) -> Tensor:
    total = logits.sum() * 0
    for full, label in zip(full_size(logits, labels, align_corners), labels, strict=True):
        share, labeled, of_image = full.softmax(0), label != IGNORE_INDEX, []
        for index in set(label.flatten().tolist()) - {IGNORE_INDEX}:
            true = (label == index).double()
            overlap = (share[index] * true).sum()
            of_image.append(1 - 2 * overlap / (share[index][labeled].sum() + true.sum()))
        total = total + (sum(of_image) / len(of_image) if of_image else 0.0)
    return total


def plain_tversky(logits: Tensor, labels: Tensor, align_corners: bool, alpha: float, beta: float) -> Tensor:
    total = logits.sum() * 0
    for full, label in zip(full_size(logits, labels, align_corners), labels, strict=True):
        labeled, of_image = label != IGNORE_INDEX, []
        share, label = full.softmax(0)[:, labeled], label[labeled]
        for index in set(label.tolist()):
            true = label == index
            positives, missed = share[index][true].sum(), (1 - share[index][true]).sum()
            of_image.append(1 - positives / (positives + alpha * share[index][~true].sum() + beta * missed))
        total = total + (sum(of_image) / len(of_image) if of_image else 0.0)
    return total


def plain_lovasz(logits: Tensor, labels: Tensor, align_corners: bool) -> Tensor:
    """The Lovász extension by its definition: errors in descending order, times their increase of 1 - IoU."""
    total = logits.sum() * 0
    for full, label in zip(full_size(logits, labels, align_corners), labels, strict=True):
        labeled, of_image = label != IGNORE_INDEX, []
        share, label = full.softmax(0)[:, labeled], label[labeled]
        for index in set(label.tolist()):
            true = label == index
            errors = torch.where(true, 1 - share[index], share[index])
            positives, missed, false, before, loss = int(true.sum()), 0, 0, 0.0, 0.0
            for pixel in torch.argsort(errors, descending=True).tolist():
                missed, false = (missed + 1, false) if true[pixel] else (missed, false + 1)
                lost = 1 - (positives - missed) / (positives + false)
                loss, before = loss + errors[pixel] * (lost - before), lost
            of_image.append(loss)
        total = total + (sum(of_image) / len(of_image) if of_image else 0.0)
    return total
