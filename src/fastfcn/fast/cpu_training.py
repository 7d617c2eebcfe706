"""Layers that train faster on a CPU and in less memory, with the same losses and gradients up to rounding.

They replace the forward pass of layers in place, so names of weights stay. They compute as the plain layers do wherever
the kernels do not apply: in evaluation, under autocast, and with frozen batch norms.
"""

import torch
from torch import Tensor, nn

from fastfcn import kernels
from fastfcn.models.layers import SeparableConv
from fastfcn.ops.separable import separable_conv
from fastfcn.ops.winograd import winograd_conv, winograd_pays
from fastfcn.utils.modules import change_class


class WinogradConv2d(nn.Conv2d):
    """A 3x3 convolution of stride 1 that trains with the Winograd algorithm."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if bias is None and self.training and _kernels_apply(input):
            return winograd_conv(input, weight, self.dilation[0])
        return super()._conv_forward(input, weight, bias)


class FusedSeparableConv(SeparableConv):
    """A separable convolution that keeps only its input and the input of its last batch norm for the backward pass."""

    def forward(self, features: Tensor) -> Tensor:
        depthwise, norm = self.depthwise.conv, self.depthwise.bn
        if type(norm) is not nn.BatchNorm2d or not norm.training or not _kernels_apply(features):
            return super().forward(features)
        pointwise = self.pointwise
        mixed = separable_conv(features, depthwise.weight, norm, pointwise.conv.weight, depthwise.dilation[0])
        return pointwise.bn(mixed)


def use_training_kernels(network: nn.Module) -> bool:
    """Let the layers of `network` train with the CPU kernels, in place; False if the kernels are not available."""
    if not kernels.available():
        return False
    for module in network.modules():
        if type(module) is SeparableConv and module.depthwise.conv.in_channels % 16 == 0:
            change_class(module, FusedSeparableConv)
        elif type(module) is nn.Conv2d and _winograd_trains_faster(module):
            change_class(module, WinogradConv2d)
    return True


def _winograd_trains_faster(conv: nn.Conv2d) -> bool:
    """False for the convolutions of a stem: they gain little, and their rounding errors affect all later layers."""
    return conv.stride == (1, 1) and conv.in_channels * conv.out_channels >= 32 * 64 and winograd_pays(conv)


def _kernels_apply(features: Tensor) -> bool:
    """Whether this is a float32 tensor on the CPU, outside autocast, and gradients are enabled."""
    float32_on_cpu = features.device.type == "cpu" and features.dtype == torch.float32
    return float32_on_cpu and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
