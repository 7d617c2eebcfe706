"""Depthwise convolution, batch norm and 1x1 convolution in CPU training; only the input is saved for backward.

JPU applies four of these to one map of 1536 channels. Autograd would save eight more maps of that size: input and
output of each norm. The input is recomputed, with nine products per value. The output is not needed: a norm is a
product and a sum per channel, which are merged into the 1x1 convolution, forward and backward.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def separable_conv(features: Tensor, spatial: Tensor, norm: nn.BatchNorm2d, pointwise: Tensor, dilation: int) -> Tensor:
    """conv1x1(batch_norm(depthwise(features))), without biases; equal to the separate layers up to rounding.

    `features`: (B, C, H, W), float32 on the CPU, C a multiple of 16; `spatial`: (C, 1, 3, 3), padded by its `dilation`;
    `norm`: in training mode, its running statistics are updated; `pointwise`: (O, C, 1, 1). Needs the operators of
    `kernels.available`. Returns (B, O, H, W), channels last. Raises RuntimeError in a backward pass with
    `create_graph=True`.
    """
    result, mean, variance = _SeparableConv.apply(
        features, spatial, norm.weight, norm.bias, pointwise, norm.eps, dilation
    )  # type: ignore[misc] # `apply` is not typed
    _update_statistics(norm, mean, variance, features[:, 0].numel())
    return result


class _SeparableConv(torch.autograd.Function):
    """With u = depthwise(x) - mean and s = weight / std: y = (P diag(s)) u + P bias."""

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
    def backward(  # type: ignore[override] # the decorator changes the type
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        features, spatial, weight, bias, pointwise, mean, inverse = ctx.saved_tensors
        matrix, scale = pointwise.flatten(1), weight * inverse
        grad_output = _pixels(grad_outputs[0])
        centered = _depthwise(features, spatial, mean, ctx.dilation)
        # One product over the map gives the sums over pixels that the norm and the 1x1 convolution need.
        products, sums = grad_output.T @ _pixels(centered), grad_output.sum(0)
        grad_pointwise = products * scale + sums[:, None] * bias
        grad_bias = sums @ matrix
        grad_weight = (matrix * products).sum(0) * inverse
        count = grad_output.shape[0]
        grad_pixels = torch.addmm(-scale * grad_bias / count, grad_output, matrix * scale)
        grad_pixels.addcmul_(_pixels(centered), scale * inverse * grad_weight / count, value=-1)
        del centered
        inner = _map(grad_pixels, features)
        grad_spatial = torch.ops.fastfcn.depthwise_weight_gradient(features, inner, ctx.dilation)
        grad_features = None
        if ctx.needs_input_grad[0]:
            grad_features = _depthwise(inner, spatial.flip(2, 3), torch.zeros_like(weight), ctx.dilation)
        return grad_features, grad_spatial, grad_weight, grad_bias, grad_pointwise.view_as(pointwise), None, None


def _depthwise(features: Tensor, spatial: Tensor, shift: Tensor, dilation: int) -> Tensor:
    """The depthwise convolution, minus the `shift` of each channel."""
    return torch.ops.fastfcn.depthwise(features, spatial, shift, dilation)


def _pixels(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B * H * W, C); a view of a channels-last map."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


def _map(pixels: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_pixels`, for the size of `like`."""
    batch, _, height, width = like.shape
    return pixels.view(batch, height, width, -1).permute(0, 3, 1, 2)


@torch.no_grad()
def _update_statistics(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Update the running statistics after a batch with `count` values per channel, as `norm` itself would."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked += 1
    momentum = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance * (count / max(count - 1, 1)), momentum)
