"""Batch norm, ReLU with an upper limit and a convolution in training; only the input of the norm is saved for backward.

Autograd would also save the input of the convolution. It is recomputed from the norm's input, with one product and one
sum per value. In the inverted residual blocks of mobile networks, where these maps are the largest, this halves the
memory of a training step.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def norm_act_conv(
    features: Tensor, norm: nn.BatchNorm2d, limit: float, conv: nn.Conv2d, padding: Sequence[int] = (0, 0, 0, 0)
) -> Tensor:
    """conv(min(relu(batch_norm(features)), limit)), equal to the separate layers up to rounding.

    `norm`: in training mode, its running statistics are updated; `conv`: without a bias; `padding`: (left, right, top,
    bottom) in pixels, added to the convolution's own. Raises RuntimeError in a backward pass with `create_graph=True`.
    """
    momentum = 0.0
    if norm.running_mean is not None and norm.num_batches_tracked is not None:
        norm.num_batches_tracked += 1
        momentum = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
    return _NormActConv.apply(
        features, norm.weight, norm.bias, conv.weight, norm, momentum, limit, conv, tuple(padding)
    )  # type: ignore[return-value]


class _NormActConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, taps: Tensor, norm: nn.BatchNorm2d, momentum: float,
        limit: float, conv: nn.Conv2d, padding: tuple[int, ...],
    ) -> Tensor:  # fmt: skip
        normed, mean, inverse = torch.native_batch_norm(
            features, weight, bias, norm.running_mean, norm.running_var, True, momentum, norm.eps
        )
        ctx.save_for_backward(features, weight, bias, taps, mean, inverse)
        ctx.eps, ctx.limit, ctx.padding = norm.eps, limit, padding
        settings: Any = conv.stride, conv.padding, conv.dilation
        ctx.settings, ctx.groups = settings, conv.groups
        return F.conv2d(_padded(normed.clamp_(0, limit), padding), taps, None, *settings, conv.groups)  # type: ignore

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override] # the decorator changes the type
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        features, weight, bias, taps, mean, inverse = ctx.saved_tensors
        scale = weight * inverse
        shift = bias - mean * scale
        active = torch.addcmul(shift[:, None, None], features, scale[:, None, None]).clamp_(0, ctx.limit)
        grad_active, grad_taps, _ = torch.ops.aten.convolution_backward(
            grad_outputs[0], _padded(active, ctx.padding), taps, None, *ctx.settings, False, (0, 0), ctx.groups,
            (True, True, False),
        )  # fmt: skip
        if any(ctx.padding):
            grad_active = F.pad(grad_active, [-pixels for pixels in ctx.padding])
        grad_normed = torch.ops.aten.hardtanh_backward(grad_active, active, 0.0, ctx.limit)
        del active, grad_active
        grads = torch.ops.aten.native_batch_norm_backward(
            grad_normed, features, weight, None, None, mean, inverse, True, ctx.eps, (True, True, True)
        )
        return (*grads, grad_taps, None, None, None, None, None)


def _padded(features: Tensor, padding: Sequence[int]) -> Tensor:
    return F.pad(features, padding) if any(padding) else features
