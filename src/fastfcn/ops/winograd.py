"""Winograd 3x3 convolution for CPU training: about a third of the multiplications of direct convolution."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Numbers of channels from which Winograd is faster than direct convolution; product: inputs * outputs.
MIN_CHANNELS, MIN_PRODUCT, MIN_PRODUCT_STRIDED = 16, 16 * 32, 128 * 128
MAX_TILE = 4  # outputs along an axis; rounding errors of larger tiles, 1.6 times as large, add up in training


def winograd_conv(features: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """`F.conv2d(features, weight, padding=dilation, dilation=dilation)`, equal up to rounding, including gradients.

    `features`: (B, I, H, W) and `weight`: (O, I, 3, 3), float32 on the CPU, I and O multiples of 16. Needs the
    operators of `kernels.available`. Returns (B, O, H, W), channels last. Raises RuntimeError in a backward pass with
    `create_graph=True`.
    """
    return _WinogradConv.apply(features, weight, dilation)  # type: ignore[return-value]


def winograd_pays(conv: nn.Conv2d) -> bool:
    """Whether a Winograd kernel supports `conv` and is faster than direct convolution; stride 2: inference only."""
    settings = conv.kernel_size, conv.groups, conv.padding_mode
    stride, dilation, channels = conv.stride, conv.dilation[0], (conv.in_channels, conv.out_channels)
    square = stride[0] == stride[1] and conv.dilation == conv.padding == (dilation, dilation)
    supported_stride = stride[0] == 1 or (stride[0] == 2 and (dilation == 1 or dilation % 2 == 0))
    product = MIN_PRODUCT if stride[0] == 1 else MIN_PRODUCT_STRIDED
    wide = min(channels) >= MIN_CHANNELS and channels[0] * channels[1] >= product
    aligned = all(count % 16 == 0 for count in channels)
    return settings == ((3, 3), 1, "zeros") and square and supported_stride and wide and aligned


class _WinogradConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.dilation = dilation
        return _convolve(features, weight, dilation, transposed=False)

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override] # the decorator changes the type
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        grad_features, grad_weight = None, None
        if ctx.needs_input_grad[0]:
            grad_features = _convolve(grad_outputs[0], weight, ctx.dilation, transposed=True)
        if ctx.needs_input_grad[1]:
            grad_weight = torch.ops.fastfcn.winograd_weight_gradient(features, grad_outputs[0], ctx.dilation, MAX_TILE)
        return grad_features, grad_weight, None


def _convolve(features: Tensor, weight: Tensor, dilation: int, transposed: bool) -> Tensor:
    """The convolution, or its transpose, which maps a gradient of the outputs to one of the inputs."""
    taps = torch.ops.fastfcn.pack_taps(weight, transposed)
    bias = weight.new_zeros(weight.shape[1 if transposed else 0])
    return torch.ops.fastfcn.winograd(features, taps, bias, False, 1, dilation, MAX_TILE)
