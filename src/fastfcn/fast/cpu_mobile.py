"""Stems and inverted residual blocks of mobile networks (MobileNetV2, EfficientNet-Lite) for inference on a CPU."""

from math import inf
from typing import Any

import torch
import torch.nn.functional as F
from timm.models._efficientnet_blocks import DepthwiseSeparableConv, InvertedResidual
from torch import Tensor, nn

from fastfcn.fast.cpu_layers import FastStem
from fastfcn.kernels import packing
from fastfcn.models.backbone import SamePaddedConv2d

LIMITS = {nn.ReLU: inf, nn.ReLU6: 6.0}  # largest result of an activation
KERNELS = (3, 5, 7)


class FastInvertedResidual(nn.Module):
    """An inverted residual block as one operator; without `expand`, a depthwise separable block.

    `limit`: of the results of the first two convolutions, after their ReLU.
    """

    expand: Tensor | None
    expand_bias: Tensor | None

    def __init__(
        self, expand: nn.Conv2d | None, depthwise: nn.Conv2d, project: nn.Conv2d, limit: float, residual: bool
    ):
        super().__init__()
        self.kernel, self.stride = depthwise.kernel_size[0], depthwise.stride[0]
        self.same, self.limit, self.residual = type(depthwise) is SamePaddedConv2d, limit, residual
        taps, last = depthwise.weight.detach(), project.weight.detach()
        unused = -len(taps) % packing.lanes()
        if expand is None:
            self.expand = self.expand_bias = None
        else:
            last = F.pad(last, (0, 0, 0, 0, 0, unused))
            self.register_buffer("expand", packing.pack_pointwise(_padded(expand.weight.detach(), unused)))
            self.register_buffer("expand_bias", _padded(_bias(expand), unused))
        self.register_buffer("taps", packing.pack_depthwise(_padded(taps, unused)))
        self.register_buffer("taps_bias", _padded(_bias(depthwise), unused))
        self.register_buffer("project", packing.pack_pointwise(last))
        self.register_buffer("project_bias", _bias(project))

    def forward(self, features: Tensor) -> Tensor:
        return torch.ops.fastfcn.inverted_residual(
            features, self.expand, self.expand_bias, self.taps, self.taps_bias, self.project, self.project_bias,
            self.kernel, self.stride, self.same, self.limit, self.residual,
        )  # fmt: skip


def fast_block(block: Any) -> FastInvertedResidual | None:
    """The fast form of a block whose batch norms are folded; None if this is none, or one that the kernel cannot do."""
    match block:
        case InvertedResidual():
            expand, project, activations, last = block.conv_pw, block.conv_pwl, (block.bn1, block.bn2), block.bn3
        case DepthwiseSeparableConv():
            expand, project, activations, last = None, block.conv_pw, (block.bn1,), block.bn2
        case _:
            return None
    others = (block.conv_s2d or nn.Identity(), block.aa, block.se, last)
    limits = {LIMITS.get(type(activation)) for activation in activations}
    pointwise = [conv for conv in (expand, project) if conv is not None]
    simple = all(type(module) is nn.Identity for module in others) and all(_is_pointwise(conv) for conv in pointwise)
    if not simple or len(limits) > 1 or limits == {None} or not _is_depthwise(block.conv_dw):
        return None
    return FastInvertedResidual(expand, block.conv_dw, project, limits.pop(), block.has_skip)  # type: ignore[arg-type]


def fuse_mobile_stem(net: Any) -> None:
    """Replace the first convolution of a mobile network and its activation by the stem operator, in place."""
    conv: Any = getattr(net, "conv_stem", None)
    activation = getattr(net, "bn1", None)
    if type(conv) not in (nn.Conv2d, SamePaddedConv2d) or type(activation) not in LIMITS:
        return
    kernel, same = conv.kernel_size[0], type(conv) is SamePaddedConv2d
    padded = same or conv.padding == (kernel // 2, kernel // 2)
    square = conv.kernel_size == (kernel, kernel) and kernel % 2 == 1 and conv.stride == (2, 2) and padded
    if square and conv.dilation == (1, 1) and conv.in_channels == 3 and conv.out_channels % (2 * packing.lanes()) == 0:
        net.conv_stem = FastStem(conv.weight.detach(), _bias(conv), False, same, LIMITS[type(activation)])
        net.bn1 = nn.Identity()


def _is_pointwise(conv: Any) -> bool:
    settings = conv.kernel_size, conv.stride, conv.padding, conv.groups
    return type(conv) is nn.Conv2d and settings == ((1, 1), (1, 1), (0, 0), 1)


def _is_depthwise(conv: Any) -> bool:
    """Whether the kernel supports this depthwise convolution."""
    if type(conv) not in (nn.Conv2d, SamePaddedConv2d):
        return False
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    padded = type(conv) is SamePaddedConv2d or conv.padding == (kernel // 2, kernel // 2)
    square = conv.kernel_size == (kernel, kernel) and conv.stride == (stride, stride) and conv.dilation == (1, 1)
    depthwise = conv.groups == conv.in_channels == conv.out_channels
    return depthwise and square and padded and kernel in KERNELS and stride in (1, 2)


def _bias(conv: nn.Conv2d) -> Tensor:
    return conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()


def _padded(tensor: Tensor, count: int) -> Tensor:
    """`tensor` with `count` zeros after its first axis."""
    return torch.cat([tensor, tensor.new_zeros(count, *tensor.shape[1:])])
