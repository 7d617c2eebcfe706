"""From low-resolution scores to the cross-entropy at the labels' size, in strips of rows, gradient included.

Full-size scores of a crop of 512 x 512 with 150 classes are 157 MB an image; the plain path, `F.interpolate` and
`F.cross_entropy`, keeps two such maps for the backward pass and makes two more there. But the gradient of the loss is
known as soon as the softmax is, so each strip of rows is upsampled, turned into its share of the gradient, pulled back
to the low resolution at once, and forgotten.

Bilinear upsampling is `R x C^T` with two interpolation matrices, so its transpose is `R^T g C`. The columns of an
image are widened once, and the rows of each strip mixed from the few that it lies between. Maps are stored
(height, classes, width): a strip is then one matrix product of (rows, few) by (few, classes * width), and the
softmax runs over a dimension whose neighbours lie side by side.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CPU_STRIP = 2**19  # scores held at once for each thread: 2 MiB in float32, about what stays in a processor's cache
GPU_STRIP = 2**24  # enough to keep a GPU busy


def upsampled_cross_entropy(scores: Tensor, labels: Tensor, align_corners: bool, ignored: int) -> Tensor:
    """Sum over the labelled pixels of the cross-entropy of scores resized bilinearly to the labels' size.

    `scores`: (B, C, h, w) of any memory format; `labels`: (B, H, W) of any integer type, `ignored` = no label.
    Equal to `F.interpolate` and `F.cross_entropy(ignore_index=ignored, reduction="sum")` to rounding, gradient too,
    in the type of the scores. Memory beyond the scores and their gradient: two images' maps of size (h, W), and a few
    strips. The gradient cannot itself be differentiated: RuntimeError with `create_graph=True`.
    """
    wanted = torch.is_grad_enabled() and scores.requires_grad
    return _UpsampledCrossEntropy.apply(scores, labels, align_corners, ignored, wanted)  # type: ignore[return-value]


class _UpsampledCrossEntropy(torch.autograd.Function):
    """The loss, and with it the gradient, which backward only has to scale."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, labels: Tensor, align_corners: bool, ignored: int, wanted: bool) -> Tensor:
        gradient = torch.empty_like(scores) if wanted else None
        with torch.autocast(scores.device.type, enabled=False):  # else the products would be in half precision
            rows = interpolation_matrix(labels.shape[1], scores, scores.shape[2], align_corners)
            columns = interpolation_matrix(labels.shape[2], scores, scores.shape[3], align_corners)
            losses = []
            for index, (image, label) in enumerate(zip(scores, labels, strict=True)):
                into = None if gradient is None else gradient[index]
                losses += _image_losses(image, label, rows, columns, align_corners, ignored, into)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # with create_graph=True; the gradient would pass for a constant
            raise RuntimeError("upsampled_cross_entropy can be differentiated once only, not with create_graph=True")
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0], None, None, None, None


def _image_losses(
    image: Tensor, label: Tensor, rows: Tensor, columns: Tensor, align_corners: bool, ignored: int,
    gradient: Tensor | None,
) -> list[Tensor]:  # fmt: skip
    """Losses of the strips of one image (C, h, w); fills `gradient` (C, h, w), where there is one."""
    classes, before, _ = image.shape
    after, width = label.shape
    labelled = (label != ignored)[:, None]  # (H, 1, W)
    index = label.long()[:, None].masked_fill(~labelled, 0)
    wide = (image.transpose(0, 1) @ columns.T).view(before, classes * width)
    pulled = None if gradient is None else torch.zeros_like(wide)
    losses = []
    for top, bottom, first, last in strips(before, after, _strip_rows(image, width), align_corners):
        mixing = rows[top:bottom, first:last]
        strip = (mixing @ wide[first:last]).view(bottom - top, classes, width)
        counted, at = labelled[top:bottom], index[top:bottom]
        losses.append(_softmax_(strip, at, counted))
        if pulled is not None:
            strip.scatter_(1, at, strip.gather(1, at) - counted.to(strip.dtype))  # softmax minus one-hot
            pulled[first:last].addmm_(mixing.T, strip.view(bottom - top, -1))
    if gradient is not None and pulled is not None:
        gradient.copy_((pulled.view(before, classes, width) @ columns).transpose(0, 1))
    return losses


def _softmax_(strip: Tensor, index: Tensor, counted: Tensor) -> Tensor:
    """The strip's loss; its scores (rows, C, W) become their softmax over classes, 0 where nothing is counted."""
    strip.sub_(strip.amax(1, keepdim=True))
    at_label = strip.gather(1, index)
    total = strip.exp_().sum(1, keepdim=True)
    strip.mul_(counted / total)
    return ((total.log() - at_label) * counted).sum()


def strips(before: int, after: int, rows: int, align_corners: bool) -> Iterator[tuple[int, int, int, int]]:
    """Strips (top, bottom) of the `after` rows, and the (first, last) of the `before` rows that they lie between.

    One row more is taken at either end, for the positions are rounded in another way inside the matrices.
    """
    for top in range(0, after, rows):
        bottom = min(top + rows, after)
        first, last = (_source(row, before, after, align_corners) for row in (top, bottom - 1))
        yield top, bottom, max(int(first) - 1, 0), min(int(last) + 3, before)


def _source(row: int, before: int, after: int, align_corners: bool) -> float:
    """Where output row `row` lies among the input rows, as `F.interpolate` places it."""
    if align_corners:
        return row * (before - 1) / max(after - 1, 1)
    return max((row + 0.5) * before / after - 0.5, 0.0)


def interpolation_matrix(length: int, like: Tensor, before: int, align_corners: bool) -> Tensor:
    """Matrix (length, before) that resizes `before` values to `length` linearly, in the type of `like`."""
    identity = torch.eye(before, device=like.device, dtype=like.dtype)[None]
    return F.interpolate(identity, size=length, mode="linear", align_corners=align_corners)[0].T


def _strip_rows(image: Tensor, width: int) -> int:
    held = CPU_STRIP * torch.get_num_threads() if image.device.type == "cpu" else GPU_STRIP
    return max(1, held // (image.shape[0] * width))
