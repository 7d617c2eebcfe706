"""Bilinear resize of logits and the class of the highest one in one kernel for a GPU: full-size logits never exist.

Does on a GPU what csrc/head/upsample_labels.cpp does on a CPU. Triton's interpreter (`TRITON_INTERPRET=1`) runs it
on a CPU, for tests.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

PIXELS = 256  # of a row, by one program


@triton.jit
def _source(position, before, after, align_corners: tl.constexpr):
    """Where result positions lie among `before` positions, as `F.interpolate` places them: low, high, share of high."""
    if align_corners:
        place = position * ((before - 1).to(tl.float32) / tl.maximum(after - 1, 1))
    else:
        place = tl.maximum((position + 0.5) * (before.to(tl.float32) / after) - 0.5, 0.0)
    low = tl.minimum(place.to(tl.int32), before - 1)
    return low, tl.minimum(low + 1, before - 1), place - low


@triton.jit
def _upsample_labels(
    logits, out, classes, rows, columns, height, width, of_image, of_class, of_row, of_column,
    align_corners: tl.constexpr, pixels: tl.constexpr,
):  # fmt: skip
    x = tl.program_id(0) * pixels + tl.arange(0, pixels)
    y, image = tl.program_id(1), tl.program_id(2)
    top, bottom, below = _source(y.to(tl.float32), rows, height, align_corners)
    left, right, beside = _source(x.to(tl.float32), columns, width, align_corners)
    inside = x < width
    upper = logits + image.to(tl.int64) * of_image + top * of_row
    lower = logits + image.to(tl.int64) * of_image + bottom * of_row
    best = tl.full((pixels,), float("-inf"), tl.float32)
    label = tl.full((pixels,), 0, tl.int32)
    for index in range(classes):
        first, second = left * of_column + index * of_class, right * of_column + index * of_class
        a = tl.load(upper + first, inside, 0.0).to(tl.float32)
        b = tl.load(upper + second, inside, 0.0).to(tl.float32)
        c = tl.load(lower + first, inside, 0.0).to(tl.float32)
        d = tl.load(lower + second, inside, 0.0).to(tl.float32)
        above = a + below * (c - a)
        value = above + beside * (b + below * (d - b) - above)
        label = tl.where(value > best, index, label)  # of equal logits the lowest class stays
        best = tl.maximum(value, best)
    tl.store(out + (image.to(tl.int64) * height + y) * width + x, label.to(tl.uint8), inside)


def upsample_labels(logits: Tensor, height: int, width: int, align_corners: bool) -> Tensor:
    """Class map (B, height, width), uint8, of logits (B, C, h, w) of any float type and memory format; C <= 256."""
    batch, classes, rows, columns = logits.shape
    if classes > 256:
        raise ValueError(f"at most 256 classes, not {classes}")
    out = torch.empty((batch, height, width), dtype=torch.uint8, device=logits.device)
    grid = (triton.cdiv(width, PIXELS), height, batch)
    strides = logits.stride()
    _upsample_labels[grid](logits, out, classes, rows, columns, height, width, *strides, align_corners, PIXELS)  # type: ignore
    return out
