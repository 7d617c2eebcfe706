"""From stride-8 logits to a full-size class map in strips of rows, so that full-size logits never exist."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

STRIP_ELEMENTS = 4_000_000  # logits held at once: 16 MB in float32, about what stays in a processor's cache


def upsample(logits: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Bilinear resize of (B, C, h, w) logits to `size`; a copy is saved where the size is right already."""
    # Sizes that are still free have no answer; resizing to the same size changes nothing.
    if not torch.compiler.is_exporting() and logits.shape[-2:] == tuple(size):
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=align_corners)


def upsample_labels(logits: Tensor, sizes: Sequence[Sequence[int]], align_corners: bool = False) -> Tensor:
    """Class map of logits resized through each of `sizes` in turn.

    `logits`: (B, C, h, w). Several sizes compose: mmsegmentation resizes to the network's input and from there to
    the image. Returns (B, H, W) of the last size, uint8 (int64 from 256 classes on). Ties go to the lowest class.
    """
    strips = [
        strip.argmax(1).to(label_type(logits.shape[1])) for strip in upsampled_strips(logits, sizes, align_corners)
    ]
    return torch.cat(strips, dim=1)


def label_type(classes: int) -> torch.dtype:
    """The smallest type that holds a class index."""
    return torch.uint8 if classes <= 256 else torch.int64


def mean_softmax_labels(views: Sequence[tuple[Tensor, Sequence[Sequence[int]]]], align_corners: bool = False) -> Tensor:
    """Class map of the mean over views of softmax(resized logits): multi-scale and flip testing.

    `views`: logits (B, C, h, w) of any size, each with the sizes it is resized through; the last size is the same
    for all. Memory beyond the views does not grow with the image.
    """
    votes = zip(*(upsampled_strips(logits, sizes, align_corners) for logits, sizes in views), strict=True)
    strips = [torch.stack([strip.softmax(1) for strip in strips]).sum(0).argmax(1) for strips in votes]
    return torch.cat(strips, dim=1).to(label_type(views[0][0].shape[1]))


def upsampled_strips(logits: Tensor, sizes: Sequence[Sequence[int]], align_corners: bool = False) -> Iterator[Tensor]:
    """Yield the resized logits (B, C, rows, W) strip by strip, from the top row to the last.

    Equal to resizing the whole to rounding; memory does not grow with the height of the image. The strips depend
    on the last size, B and C alone.
    """
    steps = [size for before, size in pairwise([logits.shape[-2:], *sizes]) if tuple(before) != tuple(size)]
    batch, classes = logits.shape[:2]
    height, width = sizes[-1]
    rows = max(1, STRIP_ELEMENTS // (batch * classes * width))
    for top in range(0, height, rows):
        yield _rows(logits, steps, top, min(top + rows, height), align_corners)


def _rows(logits: Tensor, sizes: Sequence[Sequence[int]], top: int, bottom: int, align_corners: bool) -> Tensor:
    """Rows top..bottom of the logits resized through `sizes`."""
    if not sizes:
        return logits[:, :, top:bottom]
    *earlier, (height, width) = sizes
    before = earlier[-1][0] if earlier else logits.shape[-2]
    position = _source_rows(torch.arange(top, bottom, device=logits.device), before, height, align_corners)
    low = position.floor().long().clamp(max=before - 1)
    high = (low + 1).clamp(max=before - 1)
    first, last = int(low[0]), int(high[-1]) + 1
    source = _rows(logits, earlier, first, last, align_corners)
    share = (position - low).to(logits.dtype)[:, None]
    mixed = torch.lerp(source[:, :, low - first], source[:, :, high - first], share)
    return upsample(mixed, (bottom - top, width), align_corners)


def _source_rows(rows: Tensor, before: int, after: int, align_corners: bool) -> Tensor:
    """Where output rows lie among the input rows, as `F.interpolate` places them."""
    rows = rows.to(torch.float32)
    if align_corners:
        return rows * ((before - 1) / max(after - 1, 1))
    return ((rows + 0.5) * (before / after) - 0.5).clamp(min=0)
