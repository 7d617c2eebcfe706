"""Cross-entropy of low-resolution logits at the labels' size, with its gradient, computed in strips of rows.

Full-size logits of a 512 x 512 crop with 150 classes take 157 MB per image; `F.interpolate` and `F.cross_entropy` keep
two such maps for the backward pass and create two more there. The gradient of the loss follows directly from the
softmax, so each strip of rows is upsampled, converted to its part of the gradient, reduced to the low resolution, and
dropped.

Bilinear upsampling is `R x C^T` with two interpolation matrices, so its transpose is `R^T g C`. The columns of an image
are upsampled once; the rows of each strip are interpolated from a few source rows. Maps are stored as (height, classes,
width): a strip is then one matrix product of (rows, source rows) by (source rows, classes * width), and pixels are
contiguous in the softmax.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn.ops.upsample import interpolation_matrix

CPU_STRIP = 2**19  # logits per strip and thread: 2 MiB in float32, about the size of a CPU core's cache
GPU_STRIP = 2**24  # logits per strip, enough to keep a GPU busy


def full_precision(logits: Tensor) -> Tensor:
    """Logits in float32, or float64 if they are float64."""
    return logits if logits.dtype == torch.float64 else logits.float()


def summed_cross_entropy(logits: Tensor, labels: Tensor, align_corners: bool, ignored: int) -> Tensor:
    """Sum of the cross-entropy over labeled pixels, of logits resized bilinearly to the labels' size."""
    if logits.shape[-2:] == labels.shape[-2:]:
        return F.cross_entropy(full_precision(logits), labels.long(), ignore_index=ignored, reduction="sum")
    return upsampled_cross_entropy(full_precision(logits), labels, align_corners, ignored)


def upsampled_cross_entropy(
    logits: Tensor, labels: Tensor, align_corners: bool, ignored: int, weights: Tensor | None = None,
    focal_gamma: float = 0.0, smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """Sum over labeled pixels of the cross-entropy of logits resized bilinearly to the labels' size.

    `logits`: (B, C, h, w) of any memory format; `labels`: (B, H, W) of any integer type, `ignored` = no label;
    `weights`: (B, H, W), factor of each pixel's loss, treated as constant. Equal to `F.interpolate` and
    `F.cross_entropy(ignore_index=ignored, reduction="sum")` up to rounding, including gradients, in the dtype of the
    logits. Memory in addition to the logits and their gradient: two images' maps of size (h, W), and a few strips.
    `focal_gamma`: each pixel's loss is multiplied by (1 - p) ** focal_gamma, with p the probability of its class
    (arXiv:1708.02002, equation 4). `smoothing`: the target is 1 - smoothing for the class, plus smoothing / C for all
    (arXiv:1512.00567, section 7). Raises RuntimeError in a backward pass with `create_graph=True`.
    """
    if focal_gamma and smoothing:
        raise ValueError("the focal loss is defined for targets without smoothing")
    need_gradient = torch.is_grad_enabled() and logits.requires_grad
    return _UpsampledCrossEntropy.apply(  # type: ignore[return-value]
        logits, labels, align_corners, ignored, need_gradient, weights, focal_gamma, smoothing
    )


@torch.no_grad()
def upsampled_pixel_losses(logits: Tensor, labels: Tensor, align_corners: bool, ignored: int) -> Tensor:
    """The cross-entropy of each pixel, (B, H, W), 0 if unlabeled; arguments as above; without gradient."""
    losses = logits.new_zeros(labels.shape)
    with torch.autocast(logits.device.type, enabled=False):
        rows, columns = interpolation_matrices(logits, labels, align_corners)
        for image, label, image_losses in zip(logits, labels, losses, strict=True):
            labeled, index = labeled_pixels(label, ignored)
            for lines, _, _, strip in logit_strips(upsample_columns(image, columns), rows, columns, align_corners):
                total, at_label = exponentials_(strip, index[lines])
                image_losses[lines] = ((total.log() - at_label) * labeled[lines])[:, 0]
    return losses


class _UpsampledCrossEntropy(torch.autograd.Function):
    """The forward pass computes the gradient too; the backward pass only scales it."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, align_corners: bool, ignored: int, need_gradient: bool,
        weights: Tensor | None, focal_gamma: float, smoothing: float,
    ) -> Tensor:  # fmt: skip
        gradient = torch.empty_like(logits) if need_gradient else None
        with torch.autocast(logits.device.type, enabled=False):  # else the matrix products would be in half precision
            matrices = interpolation_matrices(logits, labels, align_corners)
            losses = []
            for number, (image, label) in enumerate(zip(logits, labels, strict=True)):
                labeled, index = labeled_pixels(label, ignored)
                pixel_weights = labeled if weights is None else weights[number].to(image.dtype)[:, None] * labeled
                image_gradient = None if gradient is None else gradient[number]
                losses += _image_losses(
                    image, index, pixel_weights, matrices, align_corners, image_gradient, focal_gamma, smoothing
                )
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # with create_graph=True, the gradient would be a constant
            raise RuntimeError("upsampled_cross_entropy does not support create_graph=True")
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0], None, None, None, None, None, None, None


def _image_losses(
    image: Tensor, index: Tensor, pixel_weights: Tensor, matrices: tuple[Tensor, Tensor], align_corners: bool,
    gradient: Tensor | None, focal_gamma: float, smoothing: float,
) -> list[Tensor]:  # fmt: skip
    """Losses of the strips of one image (C, h, w); fills `gradient` (C, h, w) unless it is None.

    `index`, `pixel_weights`: (H, 1, W), class and weight of each pixel.
    """
    rows, columns = matrices
    wide = upsample_columns(image, columns)
    row_gradient = None if gradient is None else torch.zeros_like(wide)
    losses = []
    for lines, source, matrix, strip in logit_strips(wide, rows, columns, align_corners):
        weight, classes = pixel_weights[lines], index[lines]
        total, at_label = exponentials_(strip, classes, smoothing)
        values = total.log() - at_label
        if focal_gamma:
            values, slopes = _focal(values, focal_gamma)
            losses.append((values * weight).sum())
            weight = slopes * weight
        else:
            losses.append((values * weight).sum())
        if row_gradient is not None:
            strip.mul_(weight / total)  # the weighted softmax
            weight = weight.to(strip.dtype)
            strip.scatter_(1, classes, strip.gather(1, classes) - weight * (1 - smoothing))  # minus one-hot
            if smoothing:
                strip.sub_(weight * (smoothing / strip.shape[1]))
            row_gradient[source].addmm_(matrix.T, strip.view(len(strip), -1))
    if gradient is not None and row_gradient is not None:
        gradient.copy_(upsample_columns_transposed(row_gradient, columns))
    return losses


def _focal(entropy: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """The focal loss (1 - p) ** gamma * entropy, with p = exp(-entropy), and its derivative by the cross-entropy."""
    missing = -torch.expm1(-entropy)
    factor = missing**gamma
    # entropy / missing tends to 1 as p does; 0 / tiny = 0 is fine as well, because the factor is 0 then.
    ratio = entropy / missing.clamp(min=torch.finfo(entropy.dtype).tiny)
    return factor * entropy, factor * (1 + gamma * (1 - missing) * ratio)


def labeled_pixels(label: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
    """Mask of the labeled pixels, and their class, 0 for unlabeled pixels; both (H, 1, W)."""
    labeled = (label != ignored)[:, None]
    return labeled, label.long()[:, None].masked_fill(~labeled, 0)


def exponentials_(strip: Tensor, index: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Replace the logits (rows, C, W) of a strip by exp(logit - max), in place.

    Returns their sum, and logit - max of the class `index`, so that log(sum) minus the latter is the cross-entropy.
    With `smoothing`, the latter is mixed with the mean over the classes.
    """
    strip.sub_(strip.amax(1, keepdim=True))
    at_label = strip.gather(1, index)
    if smoothing:
        at_label = at_label.lerp(strip.mean(1, keepdim=True), smoothing)
    return strip.exp_().sum(1, keepdim=True), at_label


def upsample_columns(image: Tensor, columns: Tensor) -> Tensor:
    """An image (C, h, w) with its columns upsampled, stored as (h, C * W)."""
    return (image.transpose(0, 1) @ columns.T).view(image.shape[1], -1)


def upsample_columns_transposed(row_gradient: Tensor, columns: Tensor) -> Tensor:
    """The transpose of `upsample_columns`: from a gradient (h, C * W) to that of the image (C, h, w)."""
    return (row_gradient.view(len(row_gradient), -1, len(columns)) @ columns).transpose(0, 1)


def logit_strips(
    wide: Tensor, rows: Tensor, columns: Tensor, align_corners: bool
) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
    """Yield (rows, source rows, matrix, strip) for all strips of the full-size logits.

    `strip`: logits (rows, C, W), which the caller may overwrite; `matrix`: interpolates them from the source rows; its
    transpose maps a gradient of the strip back.
    """
    before, width = len(wide), len(columns)
    for top, bottom, first, last in strips(before, len(rows), _strip_rows(wide), align_corners):
        matrix = rows[top:bottom, first:last]
        strip = (matrix @ wide[first:last]).view(bottom - top, -1, width)
        yield slice(top, bottom), slice(first, last), matrix, strip


def strips(before: int, after: int, rows: int, align_corners: bool) -> Iterator[tuple[int, int, int, int]]:
    """Strips (top, bottom) of `after` output rows, and the range (first, last) of `before` input rows that they need.

    The range has one extra row at both ends, because positions are rounded differently inside the matrices.
    """
    for top in range(0, after, rows):
        bottom = min(top + rows, after)
        first, last = (_source(row, before, after, align_corners) for row in (top, bottom - 1))
        yield top, bottom, max(int(first) - 1, 0), min(int(last) + 3, before)


def _source(row: int, before: int, after: int, align_corners: bool) -> float:
    """Position of the output row `row` in the input, as in `F.interpolate`."""
    if align_corners:
        return row * (before - 1) / max(after - 1, 1)
    return max((row + 0.5) * before / after - 0.5, 0.0)


def interpolation_matrices(logits: Tensor, labels: Tensor, align_corners: bool) -> tuple[Tensor, Tensor]:
    """Matrices (H, h) and (W, w) that resize logits (B, C, h, w) to the size of labels (B, H, W)."""
    heights, widths = ((labels.shape[axis], logits.shape[axis + 1]) for axis in (1, 2))
    return tuple(interpolation_matrix(after, before, logits, align_corners) for after, before in (heights, widths))  # type: ignore[return-value]


def _strip_rows(wide: Tensor) -> int:
    elements = CPU_STRIP * torch.get_num_threads() if wide.device.type == "cpu" else GPU_STRIP
    return max(1, elements // wide.shape[1])
