"""Dilated 3x3 convolution of each channel by itself, as ordinary ones of the map's phases.

Taps of a dilation d meet only pixels whose rows and columns are equal modulo d. Sorted by these remainders the map is
d * d small ones ("phases"), over which the convolution is an ordinary one: the same products, in the same order. On a
CPU oneDNN has fast code for the ordinary one; for dilated gradients, and for a dilation of 8 forward as well, it falls
back to a reference loop that takes six to ten times as long.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

FAST_DILATION = 4  # the largest that oneDNN has fast code for without gradients (torch 2.15)


def depthwise_conv(features: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """`F.conv2d(features, weight, padding=dilation, dilation=dilation, groups=C)`, gradients too, to rounding.

    `features`: (B, C, H, W), of any memory format; `weight`: (C, 1, 3, 3). On other devices than a CPU, and under
    autocast, it is that call. Else the gradient cannot itself be differentiated: RuntimeError with `create_graph=True`.
    """
    if torch.is_autocast_enabled(features.device.type):
        return F.conv2d(features, weight, padding=dilation, dilation=dilation, groups=features.shape[1])
    if features.device.type == "cpu" and torch.is_grad_enabled() and (features.requires_grad or weight.requires_grad):
        return _DepthwiseConv.apply(features, weight, dilation)  # type: ignore[return-value]
    return forward(features, weight, dilation)


class _DepthwiseConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.dilation = dilation
        return forward(features, weight, dilation)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # with create_graph=True; the gradient would pass for a constant
            raise RuntimeError("depthwise_conv can be differentiated once only, not with create_graph=True")
        features, weight = ctx.saved_tensors
        return *backward(grad_outputs[0], features, weight, ctx.dilation, ctx.needs_input_grad[0]), None


def forward(features: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """The convolution without a gradient."""
    channels = features.shape[1]
    if features.device.type != "cpu" or dilation <= FAST_DILATION:
        return F.conv2d(features, weight, padding=dilation, dilation=dilation, groups=channels)
    small = F.conv2d(phases(features, dilation), weight, padding=1, groups=channels)
    return joined(small, dilation, features.shape)


def backward(
    gradient: Tensor, features: Tensor, weight: Tensor, dilation: int, of_features: bool = True
) -> tuple[Tensor | None, Tensor]:
    """Gradients of `features`, unless not wanted, and `weight`, from the `gradient` of what `forward` returned."""
    shape = features.shape
    if features.device.type != "cpu" or dilation == 1:
        return _gradients(gradient, features, weight, dilation, of_features)
    small = phases(gradient, dilation), phases(features, dilation)
    found, of_weight = _gradients(*small, weight, 1, of_features)
    return None if found is None else joined(found, dilation, shape), of_weight


def _gradients(
    gradient: Tensor, features: Tensor, weight: Tensor, dilation: int, of_features: bool
) -> tuple[Tensor | None, Tensor]:
    spread = [dilation, dilation]
    found, of_weight, _ = torch.ops.aten.convolution_backward(
        gradient, features, weight, None, [1, 1], spread, spread, False, [0, 0], features.shape[1],
        [of_features, True, False],
    )  # fmt: skip
    return found, of_weight


def phases(features: Tensor, dilation: int) -> Tensor:
    """(B, C, H, W) -> (B * d * d, C, ceil(H / d), ceil(W / d)), channels last; what is missing at the end is 0."""
    batch, channels, height, width = features.shape
    rows, columns = -(-height // dilation), -(-width // dilation)
    whole = F.pad(features, (0, columns * dilation - width, 0, rows * dilation - height)).permute(0, 2, 3, 1)
    split = whole.reshape(batch, rows, dilation, columns, dilation, channels).permute(0, 2, 4, 1, 3, 5)
    return split.reshape(batch * dilation**2, rows, columns, channels).permute(0, 3, 1, 2)


def joined(small: Tensor, dilation: int, shape: torch.Size) -> Tensor:
    """The inverse of `phases`: a map of `shape`, channels last."""
    batch, channels, height, width = shape
    rows, columns = small.shape[-2:]
    split = small.permute(0, 2, 3, 1).reshape(batch, dilation, dilation, rows, columns, channels)
    whole = split.permute(0, 3, 1, 4, 2, 5).reshape(batch, rows * dilation, columns * dilation, channels)
    return whole[:, :height, :width].contiguous().permute(0, 3, 1, 2)
