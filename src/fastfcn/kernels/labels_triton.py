"""Fused bilinear resize of logits and argmax over classes for a GPU (Triton): full-size logits never exist.

The GPU counterpart of csrc/head/upsample_labels.cpp. Triton's interpreter (`TRITON_INTERPRET=1`) runs it on a CPU, for
tests.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

PIXELS = 256  # pixels of a row per program


@triton.jit
def _source(position, input_size, output_size, align_corners: tl.constexpr):
    """Source pixels and weight of output positions, as in `F.interpolate`: low, high, weight of high."""
    if align_corners:
        source = position * ((input_size - 1).to(tl.float32) / tl.maximum(output_size - 1, 1))
    else:
        source = tl.maximum((position + 0.5) * (input_size.to(tl.float32) / output_size) - 0.5, 0.0)
    low = tl.minimum(source.to(tl.int32), input_size - 1)
    return low, tl.minimum(low + 1, input_size - 1), source - low


# Not specialized: sizes of 1 would become constants, which have no `.to`.
@triton.jit(do_not_specialize=["classes", "rows", "columns"])
def _upsample_labels(
    logits, out, classes, rows, columns, height, width, image_stride, class_stride, row_stride, column_stride,
    align_corners: tl.constexpr, pixels: tl.constexpr,
):  # fmt: skip
    x = tl.program_id(0) * pixels + tl.arange(0, pixels)
    y, image = tl.program_id(1), tl.program_id(2)
    top, bottom, bottom_weight = _source(y.to(tl.float32), rows, height, align_corners)
    left, right, right_weight = _source(x.to(tl.float32), columns, width, align_corners)
    inside = x < width
    upper = logits + image.to(tl.int64) * image_stride + top * row_stride
    lower = logits + image.to(tl.int64) * image_stride + bottom * row_stride
    best = tl.full((pixels,), float("-inf"), tl.float32)
    label = tl.full((pixels,), 0, tl.int32)
    for index in range(classes):
        first, second = left * column_stride + index * class_stride, right * column_stride + index * class_stride
        top_left = tl.load(upper + first, inside, 0.0).to(tl.float32)
        top_right = tl.load(upper + second, inside, 0.0).to(tl.float32)
        bottom_left = tl.load(lower + first, inside, 0.0).to(tl.float32)
        bottom_right = tl.load(lower + second, inside, 0.0).to(tl.float32)
        left_value = top_left + bottom_weight * (bottom_left - top_left)
        value = left_value + right_weight * (top_right + bottom_weight * (bottom_right - top_right) - left_value)
        label = tl.where(value > best, index, label)  # of equal logits the lowest class
        best = tl.maximum(value, best)
    tl.store(out + (image.to(tl.int64) * height + y) * width + x, label.to(tl.uint8), inside)


def upsample_labels(logits: Tensor, height: int, width: int, align_corners: bool) -> Tensor:
    """Resize logits (B, C, h, w), any float dtype and memory format, and return their argmax.

    Returns labels (B, height, width), uint8. Raises ValueError for more than 256 classes.
    """
    batch, classes, rows, columns = logits.shape
    if classes > 256:
        raise ValueError(f"at most 256 classes, not {classes}")
    out = torch.empty((batch, height, width), dtype=torch.uint8, device=logits.device)
    if not out.numel():
        return out  # a grid cannot be empty
    grid = (triton.cdiv(width, PIXELS), height, batch)
    strides = logits.stride()
    with torch.cuda.device_of(logits):  # Triton launches on the current GPU; does nothing for a tensor on a CPU
        _upsample_labels[grid](logits, out, classes, rows, columns, height, width, *strides, align_corners, PIXELS)  # type: ignore
    return out
