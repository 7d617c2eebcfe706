"""Depthwise convolution, batch norm and 1x1 convolution in training on a processor, of which only the input is kept.

JPU sends one map of 1536 channels through four of these. Kept by the graph as usual are eight more maps of that size:
what goes into each norm, and what comes out. The first is quickly made again, by nine products for each value. The
second is not needed: a norm is a product and a sum for each channel, which go into the 1x1 convolution, forward and
backward.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def separable_conv(features: Tensor, spatial: Tensor, norm: nn.BatchNorm2d, pointwise: Tensor, dilation: int) -> Tensor:
    """conv1x1(batch_norm(depthwise(features))), all without bias: values and gradients as layer by layer, to rounding.

    `features`: (B, C, H, W), float32 on the CPU, C a multiple of 16; `spatial`: (C, 1, 3, 3), padded by its `dilation`;
    `norm`: in training, its running statistics are moved; `pointwise`: (O, C, 1, 1). It needs the operators of
    `kernels.build`. Returns (B, O, H, W), channels last. The gradient cannot itself be differentiated: RuntimeError
    with `create_graph=True`.
    """
    result, mean, variance = _SeparableConv.apply(
        features, spatial, norm.weight, norm.bias, pointwise, norm.eps, dilation
    )  # type: ignore[misc] # what `apply` returns has no type
    _move_statistics(norm, mean, variance, features[:, 0].numel())
    return result


class _SeparableConv(torch.autograd.Function):
    """With u = depthwise(x) - its mean, s = weight / deviation: y = (P diag(s)) u + P bias."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, spatial: Tensor, weight: Tensor, bias: Tensor, pointwise: Tensor, eps: float,
        dilation: int,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        spread = _depthwise(features, spatial, torch.zeros_like(weight), dilation)
        mean, variance = torch.ops.fastfcn.channel_moments(spread)
        inverse = (variance + eps).rsqrt()
        matrix, scale = pointwise.flatten(1), weight * inverse
        result = torch.addmm(matrix @ (bias - mean * scale), _pixels(spread), (matrix * scale).T)
        ctx.save_for_backward(features, spatial, weight, bias, pointwise, mean, inverse)
        ctx.dilation = dilation
        ctx.mark_non_differentiable(mean, variance)
        return _map(result, features), mean, variance

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override] # the decorator's fault
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        features, spatial, weight, bias, pointwise, mean, inverse = ctx.saved_tensors
        matrix, scale = pointwise.flatten(1), weight * inverse
        slope = _pixels(grad_outputs[0])
        centred = _depthwise(features, spatial, mean, ctx.dilation)
        # One product of the map holds what the norm and the 1x1 convolution need: sums over pixels.
        products, sums = slope.T @ _pixels(centred), slope.sum(0)
        of_pointwise = products * scale + sums[:, None] * bias
        of_bias = sums @ matrix
        of_weight = (matrix * products).sum(0) * inverse
        count = slope.shape[0]
        found = torch.addmm(-scale * of_bias / count, slope, matrix * scale)
        found.addcmul_(_pixels(centred), scale * inverse * of_weight / count, value=-1)
        del centred
        inner = _map(found, features)
        of_spatial = torch.ops.fastfcn.depthwise_weight_gradient(features, inner, ctx.dilation)
        of_features = None
        if ctx.needs_input_grad[0]:
            of_features = _depthwise(inner, spatial.flip(2, 3), torch.zeros_like(weight), ctx.dilation)
        return of_features, of_spatial, of_weight, of_bias, of_pointwise.view_as(pointwise), None, None


def _depthwise(features: Tensor, spatial: Tensor, shift: Tensor, dilation: int) -> Tensor:
    """The depthwise convolution less the `shift` of each channel."""
    return torch.ops.fastfcn.depthwise(features, spatial, shift, dilation)


def _pixels(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B * H * W, C), of a map stored channels last without a copy."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


def _map(pixels: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_pixels`, of the size of `like`."""
    batch, _, height, width = like.shape
    return pixels.view(batch, height, width, -1).permute(0, 3, 1, 2)


@torch.no_grad()
def _move_statistics(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """The running statistics after a batch with `count` values in each channel, as `norm` itself would move them."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked += 1
    share = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean, share)
    norm.running_var.lerp_(variance * (count / max(count - 1, 1)), share)
