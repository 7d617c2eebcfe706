"""Layers as they are trained on a processor: the same losses and gradients to rounding, in less time and memory.

Parts get a class of their own, with no module around them: names of weights stay. They do what they always did wherever
the kernels do not apply: in evaluation, under autocast, with norms that are not trained.
"""

import torch
from torch import Tensor, nn

from fastfcn import kernels
from fastfcn.models.layers import SeparableConv
from fastfcn.ops.separable import separable_conv
from fastfcn.ops.winograd import winograd_conv, winograd_pays


class LeanConv2d(nn.Conv2d):
    """A 3x3 convolution of stride 1, in training in Winograd's form."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if bias is None and self.training and _float32(input):
            return winograd_conv(input, weight, self.dilation[0])
        return super()._conv_forward(input, weight, bias)


class LeanSeparableConv(SeparableConv):
    """In training only its input is kept, and the map in front of the last norm."""

    def forward(self, features: Tensor) -> Tensor:
        depthwise, norm = self.depthwise.conv, self.depthwise.bn
        if type(norm) is not nn.BatchNorm2d or not norm.training or not _float32(features):
            return super().forward(features)
        pointwise = self.pointwise
        mixed = separable_conv(features, depthwise.weight, norm, pointwise.conv.weight, depthwise.dilation[0])
        return pointwise.bn(mixed)


def train_lean(network: nn.Module) -> bool:
    """Have the parts of `network` that can be trained by the kernels, in place; False where there are no kernels."""
    if not kernels.available():
        return False
    for part in network.modules():
        if type(part) is SeparableConv and part.depthwise.conv.in_channels % 16 == 0:
            part.__class__ = LeanSeparableConv
        elif type(part) is nn.Conv2d and _trained_lean(part):
            part.__class__ = LeanConv2d
    return True


def _trained_lean(conv: nn.Conv2d) -> bool:
    """Whether its training gains from Winograd's form; a stem's would little, and its rounding errors go furthest."""
    return conv.stride == (1, 1) and conv.in_channels * conv.out_channels >= 32 * 64 and winograd_pays(conv)


def _float32(features: Tensor) -> bool:
    """Whether the kernels apply, and gradients are asked for."""
    on_processor = features.device.type == "cpu" and features.dtype == torch.float32
    return on_processor and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
