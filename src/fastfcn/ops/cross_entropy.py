"""From low-resolution logits to the cross-entropy at the labels' size, in strips of rows, gradient included.

Full-size logits of a crop of 512 x 512 with 150 classes are 157 MB an image; the plain path, `F.interpolate` and
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

CPU_STRIP = 2**19  # logits held at once for each thread: 2 MiB in float32, about what stays in a processor's cache
GPU_STRIP = 2**24  # enough to keep a GPU busy


def full_precision(logits: Tensor) -> Tensor:
    """Logits of half the bits in float32."""
    return logits if logits.dtype == torch.float64 else logits.float()


def summed_cross_entropy(logits: Tensor, labels: Tensor, align_corners: bool, ignored: int) -> Tensor:
    """Sum of cross-entropy over the labelled pixels, as if the logits were resized to the labels' size first."""
    if logits.shape[-2:] == labels.shape[-2:]:
        return F.cross_entropy(full_precision(logits), labels.long(), ignore_index=ignored, reduction="sum")
    return upsampled_cross_entropy(full_precision(logits), labels, align_corners, ignored)


def upsampled_cross_entropy(
    logits: Tensor, labels: Tensor, align_corners: bool, ignored: int, weights: Tensor | None = None
) -> Tensor:
    """Sum over the labelled pixels of the cross-entropy of logits resized bilinearly to the labels' size.

    `logits`: (B, C, h, w) of any memory format; `labels`: (B, H, W) of any integer type, `ignored` = no label;
    `weights`: (B, H, W), what each pixel's loss is multiplied by; constants, of which no gradient is formed.
    Equal to `F.interpolate` and `F.cross_entropy(ignore_index=ignored, reduction="sum")` to rounding, gradient too,
    in the type of the logits. Memory beyond the logits and their gradient: two images' maps of size (h, W), and a few
    strips. The gradient cannot itself be differentiated: RuntimeError with `create_graph=True`.
    """
    wanted = torch.is_grad_enabled() and logits.requires_grad
    return _UpsampledCrossEntropy.apply(logits, labels, align_corners, ignored, wanted, weights)  # type: ignore[return-value]


@torch.no_grad()
def upsampled_pixel_losses(logits: Tensor, labels: Tensor, align_corners: bool, ignored: int) -> Tensor:
    """The cross-entropy of every pixel, (B, H, W), 0 where there is no label; arguments as above, no gradient."""
    losses = logits.new_zeros(labels.shape)
    with torch.autocast(logits.device.type, enabled=False):
        rows, columns = interpolation_matrices(logits, labels, align_corners)
        for image, label, into in zip(logits, labels, losses, strict=True):
            labelled, index = where_labelled(label, ignored)
            for lines, _, _, strip in mixed_strips(widened(image, columns), rows, columns, align_corners):
                total, at_label = exponentials_(strip, index[lines])
                into[lines] = ((total.log() - at_label) * labelled[lines])[:, 0]
    return losses


class _UpsampledCrossEntropy(torch.autograd.Function):
    """The loss, and with it the gradient, which backward only has to scale."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, align_corners: bool, ignored: int, wanted: bool,
        weights: Tensor | None,
    ) -> Tensor:  # fmt: skip
        gradient = torch.empty_like(logits) if wanted else None
        with torch.autocast(logits.device.type, enabled=False):  # else the products would be in half precision
            matrices = interpolation_matrices(logits, labels, align_corners)
            losses = []
            for number, (image, label) in enumerate(zip(logits, labels, strict=True)):
                labelled, index = where_labelled(label, ignored)
                counted = labelled if weights is None else weights[number].to(image.dtype)[:, None] * labelled
                into = None if gradient is None else gradient[number]
                losses += _image_losses(image, index, counted, matrices, align_corners, into)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # with create_graph=True; the gradient would pass for a constant
            raise RuntimeError("upsampled_cross_entropy can be differentiated once only, not with create_graph=True")
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0], None, None, None, None, None


def _image_losses(
    image: Tensor, index: Tensor, counted: Tensor, matrices: tuple[Tensor, Tensor], align_corners: bool,
    gradient: Tensor | None,
) -> list[Tensor]:  # fmt: skip
    """Losses of the strips of one image (C, h, w); fills `gradient` (C, h, w), where there is one.

    `index`, `counted`: (H, 1, W), the class of each pixel and how much it counts.
    """
    rows, columns = matrices
    wide = widened(image, columns)
    pulled = None if gradient is None else torch.zeros_like(wide)
    losses = []
    for lines, between, mixing, strip in mixed_strips(wide, rows, columns, align_corners):
        share, at = counted[lines], index[lines]
        total, at_label = exponentials_(strip, at)
        losses.append(((total.log() - at_label) * share).sum())
        if pulled is not None:
            strip.mul_(share / total)  # the softmax, 0 where nothing is counted
            strip.scatter_(1, at, strip.gather(1, at) - share.to(strip.dtype))  # minus one-hot
            pulled[between].addmm_(mixing.T, strip.view(len(strip), -1))
    if gradient is not None and pulled is not None:
        gradient.copy_(narrowed(pulled, columns))
    return losses


def where_labelled(label: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
    """Which pixels have a label, and it as an index, 0 where there is none; both (H, 1, W)."""
    labelled = (label != ignored)[:, None]
    return labelled, label.long()[:, None].masked_fill(~labelled, 0)


def exponentials_(strip: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Make the logits (rows, C, W) of a strip exp(score - highest), in place; return their sum and score at `index`.

    The score at `index` is the one before exp, less the highest too, so that log(sum) - score is the cross-entropy.
    """
    strip.sub_(strip.amax(1, keepdim=True))
    at_label = strip.gather(1, index)
    return strip.exp_().sum(1, keepdim=True), at_label


def widened(image: Tensor, columns: Tensor) -> Tensor:
    """An image (C, h, w) with its columns upsampled, stored (h, C * W)."""
    return (image.transpose(0, 1) @ columns.T).view(image.shape[1], -1)


def narrowed(pulled: Tensor, columns: Tensor) -> Tensor:
    """The transpose of `widened`: a gradient (h, C * W) as one of the image (C, h, w)."""
    return (pulled.view(len(pulled), -1, len(columns)) @ columns).transpose(0, 1)


def mixed_strips(
    wide: Tensor, rows: Tensor, columns: Tensor, align_corners: bool
) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
    """Strips of full-size logits (rows, C, W), to be changed at will, with their rows and the rows they come from.

    The third is the matrix that mixed them; its transpose takes a gradient of the strip back.
    """
    before, width = len(wide), len(columns)
    for top, bottom, first, last in strips(before, len(rows), _strip_rows(wide), align_corners):
        mixing = rows[top:bottom, first:last]
        strip = (mixing @ wide[first:last]).view(bottom - top, -1, width)
        yield slice(top, bottom), slice(first, last), mixing, strip


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


def interpolation_matrices(logits: Tensor, labels: Tensor, align_corners: bool) -> tuple[Tensor, Tensor]:
    """What takes rows (H, h) and columns (W, w) of logits (B, C, h, w) to the size of labels (B, H, W)."""
    heights, widths = ((labels.shape[axis], logits.shape[axis + 1]) for axis in (1, 2))
    return tuple(interpolation_matrix(after, logits, before, align_corners) for after, before in (heights, widths))  # type: ignore[return-value]


def _strip_rows(wide: Tensor) -> int:
    held = CPU_STRIP * torch.get_num_threads() if wide.device.type == "cpu" else GPU_STRIP
    return max(1, held // wide.shape[1])
