"""Layers that train faster on a CPU and in less memory, with the same losses and gradients up to rounding.

They replace the forward pass of layers in place, so names of weights stay. They compute as the plain layers do wherever
the kernels do not apply: in evaluation, under autocast, and with frozen batch norms.
"""

from math import inf
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from timm.models._efficientnet_blocks import DepthwiseSeparableConv, InvertedResidual
from torch import Tensor, nn

from fastfcn import kernels
from fastfcn.models.backbone import SamePaddedConv2d
from fastfcn.models.layers import SeparableConv
from fastfcn.ops.norm_act import norm_act_conv
from fastfcn.ops.separable import separable_conv
from fastfcn.ops.winograd import winograd_conv, winograd_pays
from fastfcn.utils.modules import change_class


class WinogradConv2d(nn.Conv2d):
    """A 3x3 convolution of stride 1 that trains with the Winograd algorithm."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if bias is None and self.training and _kernels_apply(input):
            return winograd_conv(input, weight, self.dilation[0])
        return super()._conv_forward(input, weight, bias)


class SubsampledConv2d(nn.Conv2d):
    """A 1x1 convolution with a stride and without padding, computed as one of stride 1 over every n-th pixel.

    oneDNN's weight gradient of strided 1x1 convolutions with few input channels is wrong in channels_last: it writes
    past the end of its buffer (torch 2.15; oneDNN issue 6035).
    """

    def forward(self, input: Tensor) -> Tensor:
        rows, columns = self.stride
        return F.conv2d(input[..., ::rows, ::columns], self.weight, self.bias, groups=self.groups)


class FusedSeparableConv(SeparableConv):
    """A separable convolution that keeps only its input and the input of its last batch norm for the backward pass."""

    def forward(self, features: Tensor) -> Tensor:
        depthwise, norm = self.depthwise.conv, self.depthwise.bn
        if type(norm) is not nn.BatchNorm2d or not norm.training or not _kernels_apply(features):
            return super().forward(features)
        pointwise = self.pointwise
        mixed = separable_conv(features, depthwise.weight, norm, pointwise.conv.weight, depthwise.dilation[0])
        return pointwise.bn(mixed)


class LeanInvertedResidual(InvertedResidual):
    """An inverted residual block of a mobile network that keeps about half as much for the backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        if not (_norms_train(self) and _kernels_apply(x)):
            return super().forward(x)
        middle = _norm_act_conv(self.conv_pw(x), self.bn1, self.conv_dw)
        result = self.bn3(_norm_act_conv(middle, self.bn2, self.conv_pwl))
        return self.drop_path(result) + x if self.has_skip else result


class LeanSeparableConv(DepthwiseSeparableConv):
    """A depthwise separable block of a mobile network that keeps less for the backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        if not (_norms_train(self) and _kernels_apply(x)):
            return super().forward(x)
        result = self.bn2(_norm_act_conv(self.conv_dw(x), self.bn1, self.conv_pw))
        return self.drop_path(result) + x if self.has_skip else result


def use_training_kernels(network: nn.Module) -> bool:
    """Let the layers of `network` train with the CPU kernels, in place; False if the kernels are not available."""
    if not kernels.available():
        return False
    for module in network.modules():
        if type(module) is SeparableConv and module.depthwise.conv.in_channels % 16 == 0:
            change_class(module, FusedSeparableConv)
        elif type(module) in LEAN_BLOCKS and _is_plain(module):
            change_class(module, LEAN_BLOCKS[type(module)])
        elif type(module) is nn.Conv2d and _winograd_trains_faster(module):
            change_class(module, WinogradConv2d)
    return True


LEAN_BLOCKS: dict[type[nn.Module], type[nn.Module]] = {
    InvertedResidual: LeanInvertedResidual,
    DepthwiseSeparableConv: LeanSeparableConv,
}
LIMITS = {nn.ReLU: inf, nn.ReLU6: 6.0}  # largest result of an activation


def _is_plain(block: Any) -> bool:
    """Whether a mobile block has nothing but convolutions, batch norms with ReLU or ReLU6, and a residual."""
    norms = [block.bn1, block.bn2, block.bn3] if hasattr(block, "bn3") else [block.bn1, block.bn2]
    convolutions = [block.conv_dw, block.conv_pw, *([block.conv_pwl] if hasattr(block, "conv_pwl") else [])]
    others = (block.conv_s2d or nn.Identity(), block.aa, block.se, norms[-1].act, *(norm.drop for norm in norms))
    return (
        all(type(norm) is BatchNormAct2d for norm in norms)
        and all(type(module) is nn.Identity for module in others)
        and all(type(norm.act) in LIMITS for norm in norms[:-1])
        and all(type(conv) in (nn.Conv2d, SamePaddedConv2d) and conv.bias is None for conv in convolutions)
    )


def _norms_train(block: nn.Module) -> bool:
    """Whether no batch norm of the block is frozen."""
    return all(norm.training for norm in block.modules() if isinstance(norm, nn.BatchNorm2d))


def _norm_act_conv(features: Tensor, norm: Any, conv: Any) -> Tensor:
    padding = (0, 0, 0, 0)
    if isinstance(conv, SamePaddedConv2d):
        vertical, horizontal = conv.paddings(features.shape[-2:])
        padding = (*horizontal, *vertical)
    return norm_act_conv(features, norm, LIMITS[type(norm.act)], conv, padding)


def subsample_pointwise(network: nn.Module) -> None:
    """Give the strided 1x1 convolutions of `network` with few input channels the form that trains correctly, in place.

    Others, as those of ResNets, stay as they are: oneDNN is only wrong for an incomplete block of 16 input channels.
    """
    for module in network.modules():
        if type(module) in (nn.Conv2d, SamePaddedConv2d) and _is_strided_pointwise(module):  # a 1x1 kernel pads nothing
            change_class(module, SubsampledConv2d)


def _is_strided_pointwise(conv: Any) -> bool:
    strided = conv.kernel_size == (1, 1) and max(conv.stride) > 1 and conv.padding in ((0, 0), "valid", 0)
    return strided and conv.in_channels // conv.groups % 16 != 0


def _winograd_trains_faster(conv: nn.Conv2d) -> bool:
    """False for the convolutions of a stem: they gain little, and their rounding errors affect all later layers."""
    return conv.stride == (1, 1) and conv.in_channels * conv.out_channels >= 32 * 64 and winograd_pays(conv)


def _kernels_apply(features: Tensor) -> bool:
    """Whether this is a float32 tensor on the CPU, outside autocast, and gradients are enabled."""
    float32_on_cpu = features.device.type == "cpu" and features.dtype == torch.float32
    return float32_on_cpu and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
