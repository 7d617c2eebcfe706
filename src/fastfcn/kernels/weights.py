"""Weights in the forms that the operators read."""

import torch
from torch import Tensor

LINE = 16
"""Float32 that a line of the cache holds: a map in lines has the shape (B, C / LINE, H, W, LINE) (csrc/common/channel_blocks.h)."""


def lanes() -> int:
    """How many float32 the processor's vectors hold."""
    return torch.ops.fastfcn.lanes()


def pack(matrix: Tensor) -> Tensor:
    """(k, n) -> (panels, k, panel): columns in panels of two vectors, zeros after the last."""
    panel = 2 * lanes()
    padded = torch.nn.functional.pad(matrix, (0, -matrix.shape[1] % panel))
    return padded.reshape(matrix.shape[0], -1, panel).transpose(0, 1).contiguous()


def pack_pointwise(weight: Tensor) -> Tensor:
    """(O, I, 1, 1) -> for `pointwise`."""
    return pack(weight[:, :, 0, 0].T)


def slices(taps: Tensor) -> Tensor:
    """(C, 1, 3, 3) -> (slices, 9, lanes), the depthwise weights of `jpu`."""
    return taps.reshape(-1, lanes(), 9).transpose(1, 2).contiguous()
