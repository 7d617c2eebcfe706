"""How much probability each class gets, in all and where it is right: sums over an image, in strips of rows.

Soft Dice needs nothing else of the full-size softmax. Each strip of it is formed, summed and forgotten; the backward
pass forms it once more, because what a pixel's gradient is follows from the sums over all of them.
"""

from typing import Any

import torch
from torch import Tensor

from fastfcn.ops.cross_entropy import (
    exponentials_,
    interpolation_matrices,
    mixed_strips,
    narrowed,
    where_labelled,
    widened,
)


def upsampled_class_overlap(
    logits: Tensor, labels: Tensor, align_corners: bool, ignored: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Per image and class, over its labelled pixels: right, claimed and true, each (B, C).

    Of the softmax of `logits` (B, C, h, w) resized bilinearly to the size of `labels` (B, H, W): `claimed` is its sum,
    `right` that over the pixels that the class has, and `true` how many those are. Memory beyond logits and gradient:
    one image's maps of size (h, W), and a few strips. The gradient cannot itself be differentiated.
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
                labelled, index = where_labelled(label, ignored)
                right, claimed, true = (each[number] for each in sums)
                for lines, _, _, strip in mixed_strips(widened(image, columns), rows, columns, align_corners):
                    _softmax_(strip, index[lines], labelled[lines])
                    at, held = index[lines].flatten(), labelled[lines].flatten().to(strip.dtype)
                    claimed += strip.sum((0, 2))
                    right.index_add_(0, at, strip.gather(1, index[lines]).flatten())
                    true.index_add_(0, at, held)
        ctx.mark_non_differentiable(sums[2])
        return sums[0], sums[1], sums[2]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # with create_graph=True; the gradient would pass for a constant
            raise RuntimeError("upsampled_class_overlap can be differentiated once only, not with create_graph=True")
        logits, labels = ctx.saved_tensors
        align_corners, ignored = ctx.settings
        gradient = torch.empty_like(logits)
        with torch.autocast(logits.device.type, enabled=False):
            rows, columns = interpolation_matrices(logits, labels, align_corners)
            for number, (image, label) in enumerate(zip(logits, labels, strict=True)):
                labelled, index = where_labelled(label, ignored)
                wide = widened(image, columns)
                pulled = torch.zeros_like(wide)
                of_right, of_claimed = (each[number] for each in grad_outputs[:2])
                for lines, between, mixing, strip in mixed_strips(wide, rows, columns, align_corners):
                    _softmax_(strip, index[lines], labelled[lines])
                    strip = _softmax_gradient(strip, index[lines], of_right, of_claimed)
                    pulled[between].addmm_(mixing.T, strip.view(len(strip), -1))
                gradient[number].copy_(narrowed(pulled, columns))
        return gradient, None, None, None


def _softmax_(strip: Tensor, index: Tensor, labelled: Tensor) -> None:
    """Make logits (rows, C, W) their softmax over classes, in place; 0 where there is no label."""
    total, _ = exponentials_(strip, index)
    strip.mul_(labelled / total)


def _softmax_gradient(softmax: Tensor, index: Tensor, of_right: Tensor, of_claimed: Tensor) -> Tensor:
    """The gradient by the logits, p (g - sum of p g), of a loss whose gradient g by the softmax p (rows, C, W) is

    `of_claimed` (C,) at each class, and `of_right` (C,) more at the class that the pixel has.
    """
    slope = of_claimed[None, :, None].expand_as(softmax).contiguous()
    slope.scatter_add_(1, index, of_right[index])
    return softmax * (slope - (softmax * slope).sum(1, keepdim=True))
