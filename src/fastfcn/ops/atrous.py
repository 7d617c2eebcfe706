"""3x3 convolution of large dilation, whose gradient leaves out what meets only the zeros around the map.

At 32 x 64 positions a dilation of 24 uses 38 % of the products of nine full taps, one of 36 uses 21 %. On a CPU oneDNN
leaves the others out forward and in the gradient of the map, but not in that of the weight (torch 2.15).
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def atrous_conv(features: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """`F.conv2d(features, weight, padding=dilation, dilation=dilation)`, gradients too, to rounding.

    `features`: (B, C, H, W), of any memory format; `weight`: (O, C, 3, 3). On other devices than a CPU, and under
    autocast, it is that call. Else the gradient cannot itself be differentiated: RuntimeError with `create_graph=True`.
    """
    plain = features.device.type != "cpu" or torch.is_autocast_enabled("cpu")
    if plain or not (torch.is_grad_enabled() and weight.requires_grad):
        return F.conv2d(features, weight, padding=dilation, dilation=dilation)
    return _AtrousConv.apply(features, weight, dilation)  # type: ignore[return-value]


class _AtrousConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.dilation = dilation
        return F.conv2d(features, weight, padding=dilation, dilation=dilation)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # with create_graph=True; the gradient would pass for a constant
            raise RuntimeError("atrous_conv can be differentiated once only, not with create_graph=True")
        features, weight = ctx.saved_tensors
        (gradient,), spread, found = grad_outputs, [ctx.dilation] * 2, None
        if ctx.needs_input_grad[0]:
            found, _, _ = torch.ops.aten.convolution_backward(
                gradient, features, weight, None, [1, 1], spread, spread, False, [0, 0], 1, [True, False, False]
            )
        return found, _weight_gradient(gradient, features, weight, ctx.dilation), None


def _weight_gradient(gradient: Tensor, features: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """For each tap one matrix product, over the positions where it lies on the map."""
    outputs, channels, kernel, _ = weight.shape
    height, width = features.shape[-2:]
    slope, seen = gradient.permute(0, 2, 3, 1), features.permute(0, 2, 3, 1)
    result = torch.zeros_like(weight)
    for row, rows, seen_rows in _overlaps(kernel, height, dilation):
        for column, columns, seen_columns in _overlaps(kernel, width, dilation):
            one = slope[:, rows, columns].reshape(-1, outputs)
            result[:, :, row, column] = one.T @ seen[:, seen_rows, seen_columns].reshape(-1, channels)
    return result


def _overlaps(kernel: int, length: int, dilation: int) -> Iterator[tuple[int, slice, slice]]:
    """Of each tap along one axis that meets the map: its index, the results it counts for, and what it sees there."""
    for tap in range(kernel):
        shift = (tap - kernel // 2) * dilation
        first, last = max(0, -shift), min(length, length - shift)
        if first < last:
            yield tap, slice(first, last), slice(first + shift, last + shift)
