"""Upsampling of logits, and segmentation maps from them in strips of rows: full-size logits never exist."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn.ops.tiling import active_tile, source_positions

STRIP_ELEMENTS = 4_000_000  # logits per strip: 16 MB in float32, about the size of a CPU's cache


def upsample(logits: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Resize logits (B, C, h, w) bilinearly to `size`; returns `logits` itself if they have that size."""
    if (tile := active_tile()) is not None:
        return tile.resize(logits, size, align_corners)
    # Dynamic sizes cannot be compared during export; resizing to the same size changes nothing.
    if not torch.compiler.is_exporting() and logits.shape[-2:] == tuple(size):
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=align_corners)


def upsample_features(features: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """As `upsample`, in the dtype of `features`: on a GPU, autocast would return float32, at twice the memory."""
    if (
        active_tile() is None
        and features.is_cuda
        and features.dtype in (torch.bfloat16, torch.float16)
        and features.shape[-2:] != tuple(size)
    ):
        return _UpsampleHalf.apply(features, tuple(size), align_corners)  # type: ignore[return-value]
    return upsample(features, size, align_corners)


class _UpsampleHalf(torch.autograd.Function):
    """Bilinear upsampling in half precision; its gradient is summed in float32, as with autocast."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
        ctx.settings = size, features.shape, align_corners
        with torch.autocast(features.device.type, enabled=False):
            return F.interpolate(features, size=size, mode="bilinear", align_corners=align_corners)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = grad_outputs
        summed = torch.ops.aten.upsample_bilinear2d_backward(gradient.float(), *ctx.settings)
        return summed.to(gradient.dtype), None, None


def interpolation_matrix(length: int, before: int, like: Tensor, align_corners: bool) -> Tensor:
    """Matrix (length, before) that resizes `before` values to `length` linearly, as `F.interpolate` does.

    Device and dtype are those of `like`.
    """
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    identity = torch.eye(before, device=like.device, dtype=dtype)[None]
    return F.interpolate(identity, size=length, mode="linear", align_corners=align_corners)[0].T.to(like.dtype)


def upsample_labels(logits: Tensor, sizes: Sequence[Sequence[int]], align_corners: bool = False) -> Tensor:
    """Segmentation map of `logits` (B, C, h, w) resized to each of `sizes` in turn.

    mmsegmentation resizes to the network's input size and from there to the image size. Returns (B, H, W) of the last
    size: uint8, or int64 for more than 256 classes. Ties go to the lowest class.
    """
    strips = [
        strip.argmax(1).to(label_type(logits.shape[1])) for strip in upsampled_strips(logits, sizes, align_corners)
    ]
    return torch.cat(strips, dim=1)


def label_type(classes: int) -> torch.dtype:
    """Dtype of labels: uint8, or int64 for more than 256 classes."""
    return torch.uint8 if classes <= 256 else torch.int64


def mean_softmax_labels(views: Sequence[tuple[Tensor, Sequence[Sequence[int]]]], align_corners: bool = False) -> Tensor:
    """Segmentation map of the mean softmax over several views, for multi-scale and flip testing.

    `views`: logits (B, C, h, w) of any size, each with the sizes it is resized to in turn; the last size is the same
    for all views. Apart from the views and the result, memory does not grow with the image.
    """
    votes = zip(*(upsampled_strips(logits, sizes, align_corners) for logits, sizes in views), strict=True)
    strips = [torch.stack([strip.softmax(1) for strip in strips]).sum(0).argmax(1) for strips in votes]
    return torch.cat(strips, dim=1).to(label_type(views[0][0].shape[1]))


def upsampled_strips(logits: Tensor, sizes: Sequence[Sequence[int]], align_corners: bool = False) -> Iterator[Tensor]:
    """Yield the resized logits in strips (B, C, rows, W), from top to bottom.

    Equal to resizing all logits at once, up to rounding. The number of rows depends only on B, C and the last size.
    """
    steps = [size for before, size in pairwise([logits.shape[-2:], *sizes]) if tuple(before) != tuple(size)]
    batch, classes = logits.shape[:2]
    height, width = sizes[-1]
    rows = max(1, STRIP_ELEMENTS // max(1, batch * classes * width))
    for top in range(0, height, rows):
        yield _rows(logits, steps, top, min(top + rows, height), align_corners)


def _rows(logits: Tensor, sizes: Sequence[Sequence[int]], top: int, bottom: int, align_corners: bool) -> Tensor:
    """Rows `top` to `bottom` of the logits resized to `sizes` in turn."""
    if not sizes:
        return logits[:, :, top:bottom]
    *earlier, (height, width) = sizes
    before = earlier[-1][0] if earlier else logits.shape[-2]
    first, last, *on_host = _source_rows(top, bottom, before, height, align_corners)
    low, high, fraction = (part.to(logits.device, non_blocking=True) for part in on_host)
    source = _rows(logits, earlier, first, last, align_corners)
    interpolated = torch.lerp(source[:, :, low], source[:, :, high], fraction.to(logits.dtype)[:, None])
    return upsample(interpolated, (bottom - top, width), align_corners)


def _source_rows(
    top: int, bottom: int, before: int, after: int, align_corners: bool
) -> tuple[int, int, Tensor, Tensor, Tensor]:
    """The input rows (first, last) that output rows `top` to `bottom` are interpolated from, as in `F.interpolate`.

    Also for each output row, relative to `first`: the row above it, the row below it, and the weight of the latter.
    """
    low, high, fraction = source_positions(top, bottom, before, after, align_corners)
    first, last = int(low[0]), int(high[-1]) + 1
    return first, last, torch.from_numpy(low - first), torch.from_numpy(high - first), torch.from_numpy(fraction)
