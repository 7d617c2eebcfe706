"""Weights packed into the layouts that the operators read."""

import torch
from torch import Tensor

CHANNEL_BLOCK = 16
"""Channels in a block of a channel-blocked map (NCHWc), whose shape is (B, C / 16, H, W, 16): one cache line."""


def lanes() -> int:
    """Float32 values in one vector register of this CPU: 16, 8 or 4."""
    return torch.ops.fastfcn.lanes()


def pack_matrix(matrix: Tensor) -> Tensor:
    """Pack (K, N) into panels of two vectors: (ceil(N / panel), K, panel), zeros after the last column."""
    panel = 2 * lanes()
    padded = torch.nn.functional.pad(matrix, (0, -matrix.shape[1] % panel))
    return padded.reshape(matrix.shape[0], -1, panel).transpose(0, 1).contiguous()


def pack_pointwise(weight: Tensor) -> Tensor:
    """Pack the weight (O, I, 1, 1) of a 1x1 convolution for `pointwise`: (panels of O, I, panel)."""
    return pack_matrix(weight[:, :, 0, 0].T)


def pack_stem(weight: Tensor) -> Tensor:
    """Pack the weight (O, 3, k, k) of an image's first convolution for `stem`: (panels of O, k * k * 3, panel)."""
    return pack_matrix(weight.permute(2, 3, 1, 0).flatten(0, 2))


def pack_depthwise(weight: Tensor) -> Tensor:
    """Pack the weight (C, 1, k, k) of a depthwise convolution: (C / lanes, k * k, lanes)."""
    return weight.reshape(-1, lanes(), weight.shape[2] * weight.shape[3]).transpose(1, 2).contiguous()
