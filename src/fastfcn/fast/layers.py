"""Layers for inference on a processor: convolution, bias, residual and ReLU in one pass.

Each takes `(features, residual=None)`, maps (B, C, H, W) stored channels last, and returns a map; a residual may be
written over, so that no second map is needed. Weights are copied from a convolution, batch norm folded into it before,
into the form that an operator of `fastfcn.kernels` reads.
"""

from typing import Any

import torch
from torch import Tensor, nn

from fastfcn.kernels import packing
from fastfcn.ops.pyramid import convolve_bins
from fastfcn.ops.winograd import winograd_pays

LONGEST_TILE = 6  # results along an axis: the rounding errors grow with it, 1.6 times from 4 to 6


class PlainConvolution(nn.Module):
    """With what torch itself has: any convolution, on any device."""

    def __init__(self, conv: nn.Conv2d, relu: bool):
        super().__init__()
        self.conv = conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.relu = relu

    def forward(self, features: Tensor, residual: Tensor | None = None) -> Tensor:
        result = self.conv(features)
        if residual is not None:
            result += residual
        return result.relu_() if self.relu else result


class OneDNNConvolution(nn.Module):
    """Any convolution, with the sum and ReLU inside oneDNN's, on a processor."""

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d, relu: bool):
        super().__init__()
        self.settings = (_pair(conv.padding), _pair(conv.stride), _pair(conv.dilation), conv.groups)
        self.register_buffer("weight", conv.weight.detach().contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", _bias(conv))
        self.relu = relu

    def forward(self, features: Tensor, residual: Tensor | None = None) -> Tensor:
        padding, stride, dilation, groups = self.settings
        after = "relu" if self.relu else "none"
        result = torch.ops.mkldnn._convolution_pointwise(
            features.to(self.weight.dtype), self.weight, self.bias, padding, stride, dilation, groups,
            "none" if residual is not None else after, [], "",
        )  # fmt: skip
        if residual is None:
            return result
        result += residual
        return result.relu_() if self.relu else result


class PointwiseConvolution(nn.Module):
    """A 1x1 convolution."""

    packed: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d, relu: bool):
        super().__init__()
        self.stride, self.relu = conv.stride[0], relu
        self.register_buffer("packed", packing.pack_pointwise(conv.weight.detach()))
        self.register_buffer("bias", _bias(conv))

    def forward(self, features: Tensor, residual: Tensor | None = None) -> Tensor:
        return _summed("pointwise", residual, features, self.packed, self.bias, self.relu, self.stride)


class PointwisePair(nn.Module):
    """The last 1x1 convolution of a residual block and the one in its shortcut, summed as they are computed."""

    def __init__(self, last: PointwiseConvolution, shortcut: PointwiseConvolution):
        super().__init__()
        self.stride, self.relu = shortcut.stride, last.relu
        self.register_buffer("packed", last.packed)
        self.register_buffer("shortcut_packed", shortcut.packed)
        self.register_buffer("bias", last.bias + shortcut.bias)

    def forward(self, features: Tensor, shortcut: Tensor) -> Tensor:
        return torch.ops.fastfcn.pointwise_pair(
            features, self.packed, self.bias, self.relu, shortcut, self.shortcut_packed, self.stride
        )


class WinogradConvolution(nn.Module):
    """A 3x3 convolution of stride 1, or of stride 2 and dilation 1 or an even one, in Winograd's form.

    With `pooled`, max pooling 3x3 at stride 2 is applied to the result; with `channel_blocked`, the result is stored in
    blocks of 16 channels (NCHWc, kernels/csrc/common/channel_blocks.h). Neither supports a residual.
    """

    taps: Tensor
    bias: Tensor
    pooled = False
    channel_blocked = False

    def __init__(self, conv: nn.Conv2d, relu: bool):
        super().__init__()
        self.stride, self.dilation, self.relu = conv.stride[0], conv.dilation[0], relu
        self.register_buffer("taps", torch.ops.fastfcn.pack_taps(conv.weight.detach(), False))
        self.register_buffer("bias", _bias(conv))

    def can_pool(self) -> bool:
        """Whether max pooling behind it can be done in its pass, as nothing it returns is negative."""
        return self.relu and self.stride == self.dilation == 1

    def forward(self, features: Tensor, residual: Tensor | None = None) -> Tensor:
        if self.pooled:
            return torch.ops.fastfcn.winograd_pool(features, self.taps, self.bias, LONGEST_TILE)
        settings = (self.taps, self.bias, self.relu, self.stride, self.dilation, LONGEST_TILE)
        if self.channel_blocked:
            return torch.ops.fastfcn.winograd(features, *settings, True)
        return _summed("winograd", residual, features, *settings)


class FastStem(nn.Module):
    """An image's convolution at stride 2 with its ReLU and, with `pool`, max pooling 3x3 at stride 2, in one pass."""

    def __init__(self, conv: OneDNNConvolution, pool: bool):
        super().__init__()
        self.kernel, self.pool = conv.weight.shape[-1], pool
        self.register_buffer("packed", packing.pack_stem(conv.weight))
        self.register_buffer("bias", conv.bias)

    def forward(self, images: Tensor) -> Tensor:
        return torch.ops.fastfcn.stem(images, self.packed, self.bias, self.kernel, self.pool)


class FastMaxPool(nn.Module):
    """Max pooling 3x3 at stride 2, as a ResNet's stem has it."""

    def forward(self, features: Tensor) -> Tensor:
        return torch.ops.fastfcn.max_pool(features)


FAST_CONVOLUTIONS = PlainConvolution | OneDNNConvolution | PointwiseConvolution | WinogradConvolution


def convolution(conv: nn.Conv2d, relu: bool, kernels: bool) -> nn.Module:
    """The fastest layer for `conv`. `kernels`: the operators of `fastfcn.kernels` are there."""
    square = conv.stride[0] == conv.stride[1] and conv.groups == 1 and conv.padding_mode == "zeros"
    if kernels and square and conv.kernel_size == (1, 1) and conv.padding == (0, 0):
        return PointwiseConvolution(conv, relu)
    if kernels and winograd_pays(conv):
        return WinogradConvolution(conv, relu)
    on_processor = conv.weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
    return OneDNNConvolution(conv, relu) if on_processor else PlainConvolution(conv, relu)


def _summed(operator: str, residual: Tensor | None, *settings: Any) -> Tensor:
    """What an operator makes of `settings`, or its sum with the residual, which it writes over."""
    if residual is None:
        return getattr(torch.ops.fastfcn, operator)(*settings)
    residual = residual.float()  # from an operator under autocast
    getattr(torch.ops.fastfcn, f"{operator}_add_")(residual, *settings)
    return residual


def _bias(conv: nn.Conv2d) -> Tensor:
    return conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()


def _pair(value: int | tuple[int, ...] | str) -> list[int]:
    assert not isinstance(value, str)
    return [value, value] if isinstance(value, int) else list(value)


class FastContextBottleneck(nn.Module):
    """A head's bottleneck over a full map and pooled ones, whose share goes in as the residual."""

    def __init__(self, full: nn.Module, pooled: list[Tensor], kernel: int):
        super().__init__()
        self.full, self.kernel = full, kernel
        self.matrices = nn.ParameterList(nn.Parameter(each, requires_grad=False) for each in pooled)

    def forward(self, full: Tensor, pooled: list[Tensor], align_corners: bool) -> Tensor:
        size = (full.shape[-2], full.shape[-1])
        return self.full(full, convolve_bins(pooled, list(self.matrices), self.kernel, size, align_corners))


class FastJPU(nn.Module):
    """JPU with its resized maps and depthwise results in cache only (kernels/csrc/jpu/jpu.cpp).

    With `following`, a head's first 1x1 convolution with its ReLU, JPU's own results stay there too, and those of that
    convolution are returned.
    """

    def __init__(
        self,
        lateral: list[nn.Module],
        separable: list[tuple[nn.Conv2d, nn.Conv2d]],
        align_corners: bool,
        following: PointwiseConvolution | None,
    ):
        super().__init__()
        self.lateral = nn.ModuleList(lateral)
        # Those read as they are resized: a doubled map is convolved before that, unless corners are aligned.
        for each in lateral[: 2 if align_corners else 1]:
            if isinstance(each, WinogradConvolution) and each.bias.numel() % packing.CHANNEL_BLOCK == 0:
                each.channel_blocked = True
        self.following = following
        self.align_corners = align_corners
        self.dilations = [depthwise.dilation[0] for depthwise, _ in separable]
        # No activation stands between: the depthwise bias goes through the 1x1 into its own.
        biases = [_bias(pointwise) + pointwise.weight[:, :, 0, 0] @ _bias(depth) for depth, pointwise in separable]
        self.register_buffer(
            "taps", torch.stack([packing.pack_depthwise(depthwise.weight) for depthwise, _ in separable])
        )
        self.register_buffer("packed", torch.stack([packing.pack_pointwise(each.weight) for _, each in separable]))
        self.register_buffer("bias", torch.stack(biases))

    def forward(self, stages: list[Tensor]) -> Tensor:
        """Maps, finest first, which are taken out of the list: they can be freed as soon as they are used."""
        maps = [lateral(stages.pop(0)) for lateral in self.lateral]
        following = () if self.following is None else (self.following.packed, self.following.bias)
        return torch.ops.fastfcn.jpu(
            maps, self.taps, self.packed, self.bias, self.dilations, self.align_corners, *following
        )
