"""Depthwise convolution, batch norm and 1x1 convolution in training, of which only the input is kept.

JPU sends one map of 1536 channels through four of these. Kept by the graph as usual are eight more maps of that size:
what goes into each norm, and what comes out. Both are quickly made again, by nine products for each value and one more,
while the 1x1 convolution, hundreds of products for each value, is not repeated.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn.ops import depthwise


class Norm(NamedTuple):
    """A batch norm in training; running statistics (C,) are updated in place, unless None."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor | None
    running_var: Tensor | None
    momentum: float
    eps: float


def separable_conv(features: Tensor, spatial: Tensor, norm: Norm, pointwise: Tensor, dilation: int) -> Tensor:
    """conv1x1(batch_norm(depthwise(features))), all without bias: values and gradients as layer by layer, to rounding.

    `features`: (B, C, H, W); `spatial`: (C, 1, 3, 3), padded by its `dilation`; `pointwise`: (O, C, 1, 1). Returns
    (B, O, H, W). Under autocast the convolutions are in its type, but for the first on a CPU, which stays in float32.
    The gradient cannot itself be differentiated: RuntimeError with `create_graph=True`.
    """
    device = features.device.type
    low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    return _SeparableConv.apply(features, spatial, norm.weight, norm.bias, pointwise, norm, dilation, low)  # type: ignore[return-value]


class _SeparableConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, spatial: Tensor, weight: Tensor, bias: Tensor, pointwise: Tensor, norm: Norm,
        dilation: int, low: torch.dtype | None,
    ) -> Tensor:  # fmt: skip
        ctx.dilation, ctx.eps, ctx.low = dilation, norm.eps, low
        with torch.autocast(features.device.type, enabled=False):
            spread = depthwise.forward(*_first_types(features, spatial, low), dilation)
            normed, mean, inverse = torch.native_batch_norm(
                spread, weight, bias, norm.running_mean, norm.running_var, True, norm.momentum, norm.eps
            )
            ctx.save_for_backward(features, spatial, weight, bias, pointwise, mean, inverse)
            return F.conv2d(*_cast(low, normed, pointwise))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # with create_graph=True; the gradient would pass for a constant
            raise RuntimeError("separable_conv can be differentiated once only, not with create_graph=True")
        features, spatial, weight, bias, pointwise, mean, inverse = ctx.saved_tensors
        with torch.autocast(features.device.type, enabled=False):
            first = _first_types(features, spatial, ctx.low)
            spread = depthwise.forward(*first, ctx.dilation)
            normed, low_pointwise = _cast(ctx.low, _norm(spread, weight, bias, mean, inverse), pointwise)
            slope, of_pointwise, _ = torch.ops.aten.convolution_backward(
                grad_outputs[0], normed, low_pointwise, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1,
                [True, True, False],
            )  # fmt: skip
            del normed  # as large as the others, and not needed any more
            slope, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
                slope.to(spread.dtype), spread, weight, None, None, mean, inverse, True, ctx.eps, [True, True, True]
            )
            del spread
            found, of_spatial = depthwise.backward(slope, *first, ctx.dilation, ctx.needs_input_grad[0])
        found = None if found is None else found.to(features.dtype)
        return (
            found, of_spatial.to(spatial.dtype), of_weight, of_bias, of_pointwise.to(pointwise.dtype), None, None, None,
        )  # fmt: skip


def _norm(spread: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, inverse: Tensor) -> Tensor:
    """What `native_batch_norm` returned: it computes the same product and sum."""
    factor = weight * inverse
    shift = bias - mean * factor
    return torch.addcmul(shift[:, None, None], spread, factor[:, None, None]).to(spread.dtype)


def _first_types(features: Tensor, spatial: Tensor, low: torch.dtype | None) -> tuple[Tensor, Tensor]:
    """The depthwise convolution's map and weight. Its bf16 gradients on a CPU are wrong at times (torch 2.15)."""
    return _cast(torch.float32 if low and features.device.type == "cpu" else low, features, spatial)


def _cast(kind: torch.dtype | None, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    return (one.to(kind), other.to(kind)) if kind else (one, other)
