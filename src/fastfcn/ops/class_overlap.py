"""Sums of the full-size softmax for the Dice loss, computed in strips of rows.

The Dice loss needs only sums over an image, so each strip of the softmax is computed, summed and dropped. The backward
pass computes the strips again, because the gradient of each pixel depends on the sums over all pixels.
"""

from typing import Any

import torch
from torch import Tensor

from fastfcn.ops.cross_entropy import (
    exponentials_,
    interpolation_matrices,
    labeled_pixels,
    logit_strips,
    upsample_columns,
    upsample_columns_transposed,
)


def upsampled_class_overlap(
    logits: Tensor, labels: Tensor, align_corners: bool, ignored: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Overlap, predicted and true area per image and class, over the labeled pixels; each (B, C).

    With p the softmax of `logits` (B, C, h, w) resized bilinearly to the size of `labels` (B, H, W): `predicted` is the
    sum of p, `overlap` the sum over the pixels of the class, and `true` their number. Memory in addition to logits and
    gradient: one image's maps of size (h, W), and a few strips. Raises RuntimeError in a backward pass with
    `create_graph=True`.
    """
    return _ClassOverlap.apply(logits, labels, align_corners, ignored)  # type: ignore[return-value]


class _ClassOverlap(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, align_corners: bool, ignored: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(logits, labels)
        ctx.settings = align_corners, ignored
        sums = [logits.new_zeros(logits.shape[:2]) for _ in range(3)]
        with torch.autocast(logits.device.type, enabled=False):
            rows, columns = interpolation_matrices(logits, labels, align_corners)
            for number, (image, label) in enumerate(zip(logits, labels, strict=True)):
                labeled, index = labeled_pixels(label, ignored)
                overlap, predicted, true = (values[number] for values in sums)
                for lines, _, _, strip in logit_strips(upsample_columns(image, columns), rows, columns, align_corners):
                    _softmax_(strip, index[lines], labeled[lines])
                    classes, counts = index[lines].flatten(), labeled[lines].flatten().to(strip.dtype)
                    predicted += strip.sum((0, 2))
                    overlap.index_add_(0, classes, strip.gather(1, index[lines]).flatten())
                    true.index_add_(0, classes, counts)
        ctx.mark_non_differentiable(sums[2])
        return sums[0], sums[1], sums[2]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # with create_graph=True, the gradient would be a constant
            raise RuntimeError("upsampled_class_overlap does not support create_graph=True")
        logits, labels = ctx.saved_tensors
        align_corners, ignored = ctx.settings
        gradient = torch.empty_like(logits)
        with torch.autocast(logits.device.type, enabled=False):
            rows, columns = interpolation_matrices(logits, labels, align_corners)
            for number, (image, label) in enumerate(zip(logits, labels, strict=True)):
                labeled, index = labeled_pixels(label, ignored)
                wide = upsample_columns(image, columns)
                row_gradient = torch.zeros_like(wide)
                overlap_gradient, predicted_gradient = (values[number] for values in grad_outputs[:2])
                for lines, source, matrix, strip in logit_strips(wide, rows, columns, align_corners):
                    _softmax_(strip, index[lines], labeled[lines])
                    strip = _softmax_gradient(strip, index[lines], overlap_gradient, predicted_gradient)
                    row_gradient[source].addmm_(matrix.T, strip.view(len(strip), -1))
                gradient[number].copy_(upsample_columns_transposed(row_gradient, columns))
        return gradient, None, None, None


def _softmax_(strip: Tensor, index: Tensor, labeled: Tensor) -> None:
    """Replace logits (rows, C, W) by their softmax over classes, in place; 0 for unlabeled pixels."""
    total, _ = exponentials_(strip, index)
    strip.mul_(labeled / total)


def _softmax_gradient(softmax: Tensor, index: Tensor, overlap_gradient: Tensor, predicted_gradient: Tensor) -> Tensor:
    """The gradient with respect to the logits, p (g - sum of p g), with p = `softmax` (rows, C, W).

    g, the gradient with respect to p, is `predicted_gradient` (C,) for each class, plus `overlap_gradient` (C,) for the
    true class of the pixel.
    """
    slope = predicted_gradient[None, :, None].expand_as(softmax).contiguous()
    slope.scatter_add_(1, index, overlap_gradient[index])
    return softmax * (slope - (softmax * slope).sum(1, keepdim=True))
