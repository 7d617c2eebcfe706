"""3x3 convolution of stride 1 in training on a processor, in Winograd's form: about a third of the products."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Channels of either side, and of both multiplied, from which on Winograd's form takes less time than the direct one.
WORTHWHILE, WORTHWHILE_PRODUCT, WORTHWHILE_STRIDED = 16, 16 * 32, 128 * 128
LONGEST_TILE = 4  # results along an axis; the rounding errors of longer ones, 1.6 times as large, add up in training


def winograd_conv(features: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """`F.conv2d(features, weight, padding=dilation, dilation=dilation)`, gradients too, to rounding.

    `features`: (B, I, H, W) and `weight`: (O, I, 3, 3), float32 on the CPU, I and O multiples of 16. It needs the
    operators of `kernels.build`. Returns (B, O, H, W), channels last. The gradient cannot itself be differentiated:
    RuntimeError with `create_graph=True`.
    """
    return _WinogradConv.apply(features, weight, dilation)  # type: ignore[return-value]


def winograd_pays(conv: nn.Conv2d) -> bool:
    """Whether Winograd's form can do it, and is faster than the direct one; at stride 2 there is none for training."""
    settings = conv.kernel_size, conv.groups, conv.padding_mode
    stride, dilation, channels = conv.stride, conv.dilation[0], (conv.in_channels, conv.out_channels)
    square = stride[0] == stride[1] and conv.dilation == conv.padding == (dilation, dilation)
    stepping = stride[0] == 1 or (stride[0] == 2 and (dilation == 1 or dilation % 2 == 0))
    product = WORTHWHILE_PRODUCT if stride[0] == 1 else WORTHWHILE_STRIDED
    wide = min(channels) >= WORTHWHILE and channels[0] * channels[1] >= product
    even = all(each % 16 == 0 for each in channels)
    return settings == ((3, 3), 1, "zeros") and square and stepping and wide and even


class _WinogradConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.dilation = dilation
        return _convolved(features, weight, dilation, transposed=False)

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override] # the decorator's fault
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        of_features, of_weight = None, None
        if ctx.needs_input_grad[0]:
            of_features = _convolved(grad_outputs[0], weight, ctx.dilation, transposed=True)
        if ctx.needs_input_grad[1]:
            of_weight = torch.ops.fastfcn.winograd_weight_gradient(
                features, grad_outputs[0], ctx.dilation, LONGEST_TILE
            )
        return of_features, of_weight, None


def _convolved(features: Tensor, weight: Tensor, dilation: int, transposed: bool) -> Tensor:
    """The convolution, or the one that takes a gradient of its results to one of its inputs."""
    taps = torch.ops.fastfcn.pack_taps(weight, transposed)
    bias = weight.new_zeros(weight.shape[1 if transposed else 0])
    return torch.ops.fastfcn.winograd(features, taps, bias, False, 1, dilation, LONGEST_TILE)
