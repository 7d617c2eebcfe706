"""Shared by tests of several operators: reference convolutions in float64, layouts, tolerances and thread counts."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn.kernels import packing

TOLERANCE = {"rtol": 0, "atol": 2e-4}  # for results of unit variance, in float32


def reference_convolution(
    features: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, relu: bool, **settings
) -> Tensor:
    result = F.conv2d(features.double(), weight.double(), bias.double(), **settings)
    result = result if residual is None else result + residual.double()
    return (result.relu() if relu else result).float()


def to_channel_blocks(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C / 16, H, W, 16), C a multiple of 16."""
    return features.unflatten(1, (-1, packing.CHANNEL_BLOCK)).permute(0, 1, 3, 4, 2).contiguous()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run operators with `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
