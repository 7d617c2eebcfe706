"""Layers for inference on a CPU: convolution, bias, residual and ReLU in one pass; the stem, and JPU as one operator.

The convolutions take `(features, residual=None)`, both (B, C, H, W) in channels_last, and may overwrite the residual,
which saves a second map. Batch norms must be folded before; weights are packed into the layouts of `kernels.packing`.
"""

from typing import Any

import torch
from torch import Tensor, nn

from fastfcn.kernels import packing
from fastfcn.ops.pyramid import convolve_bins
from fastfcn.ops.winograd import winograd_pays

MAX_TILE = 6  # outputs of a Winograd tile along an axis; rounding errors are 1.6 times those of 4


class PlainConvolution(nn.Module):
    """Any convolution on any device, in plain PyTorch."""

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
    """Any convolution on a CPU, with the ReLU fused into oneDNN's convolution."""

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
        activation = "relu" if self.relu else "none"
        result = torch.ops.mkldnn._convolution_pointwise(
            features.to(self.weight.dtype), self.weight, self.bias, padding, stride, dilation, groups,
            "none" if residual is not None else activation, [], "",
        )  # fmt: skip
        if residual is None:
            return result
        result += residual
        return result.relu_() if self.relu else result


class PointwiseConvolution(nn.Module):
    """A 1x1 convolution with the kernel `pointwise`."""

    packed: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d, relu: bool):
        super().__init__()
        self.stride, self.relu = conv.stride[0], relu
        self.register_buffer("packed", packing.pack_pointwise(conv.weight.detach()))
        self.register_buffer("bias", _bias(conv))

    def forward(self, features: Tensor, residual: Tensor | None = None) -> Tensor:
        return _run("pointwise", residual, features, self.packed, self.bias, self.relu, self.stride)


class PointwisePair(nn.Module):
    """The sum of the last 1x1 convolution of a residual block and the one in its shortcut, in one kernel."""

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
    """A 3x3 convolution by the Winograd algorithm: stride 1, or stride 2 with an even dilation or dilation 1.

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
        """Whether the kernel can apply the max pooling that follows: it pads with 0, so it needs a ReLU."""
        return self.relu and self.stride == self.dilation == 1

    def forward(self, features: Tensor, residual: Tensor | None = None) -> Tensor:
        if self.pooled:
            return torch.ops.fastfcn.winograd_pool(features, self.taps, self.bias, MAX_TILE)
        settings = (self.taps, self.bias, self.relu, self.stride, self.dilation, MAX_TILE)
        if self.channel_blocked:
            return torch.ops.fastfcn.winograd(features, *settings, True)
        return _run("winograd", residual, features, *settings)


class FastStem(nn.Module):
    """The first convolution of a backbone (stride 2) with ReLU and, with `pool`, max pooling 3x3 at stride 2.

    `same`: TensorFlow's padding, which depends on the size; `limit`: of the results, 6 for ReLU6.
    """

    def __init__(self, weight: Tensor, bias: Tensor, pool: bool, same: bool = False, limit: float | None = None):
        super().__init__()
        self.kernel, self.pool, self.same, self.limit = weight.shape[-1], pool, same, limit
        self.register_buffer("packed", packing.pack_stem(weight))
        self.register_buffer("bias", bias)

    def forward(self, images: Tensor) -> Tensor:
        return torch.ops.fastfcn.stem(images, self.packed, self.bias, self.kernel, self.pool, self.same, self.limit)


class FastMaxPool(nn.Module):
    """Max pooling 3x3 at stride 2, padding 1, as in the stem of a ResNet."""

    def forward(self, features: Tensor) -> Tensor:
        return torch.ops.fastfcn.max_pool(features)


FAST_CONVOLUTIONS = PlainConvolution | OneDNNConvolution | PointwiseConvolution | WinogradConvolution


def convolution(conv: nn.Conv2d, relu: bool, kernels: bool) -> nn.Module:
    """The fastest layer for `conv`, followed by a ReLU if `relu`; `kernels`: whether the kernels are available."""
    square = conv.stride[0] == conv.stride[1] and conv.groups == 1 and conv.padding_mode == "zeros"
    if kernels and square and conv.kernel_size == (1, 1) and conv.padding == (0, 0):
        return PointwiseConvolution(conv, relu)
    if kernels and winograd_pays(conv):
        return WinogradConvolution(conv, relu)
    on_cpu = conv.weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
    return OneDNNConvolution(conv, relu) if on_cpu else PlainConvolution(conv, relu)


def _run(operator: str, residual: Tensor | None, *arguments: Any) -> Tensor:
    """The result of an operator, or its sum with `residual`, which is overwritten."""
    if residual is None:
        return getattr(torch.ops.fastfcn, operator)(*arguments)
    residual = residual.float()  # under autocast it may come from another operator in half precision
    getattr(torch.ops.fastfcn, f"{operator}_add_")(residual, *arguments)
    return residual


def _bias(conv: nn.Conv2d) -> Tensor:
    return conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()


def _pair(value: int | tuple[int, ...] | str) -> list[int]:
    assert not isinstance(value, str)
    return [value, value] if isinstance(value, int) else list(value)


class FastContextBottleneck(nn.Module):
    """The bottleneck of a head over a full-size map and pooled maps; the part of the pooled maps is the residual.

    `pooled`: the weight of each pooled map in the form of `ops.pyramid.tap_matrix`.
    """

    def __init__(self, full: nn.Module, pooled: list[Tensor], kernel: int):
        super().__init__()
        self.full, self.kernel = full, kernel
        self.matrices = nn.ParameterList(nn.Parameter(matrix, requires_grad=False) for matrix in pooled)

    def forward(self, full: Tensor, pooled: list[Tensor], align_corners: bool) -> Tensor:
        size = (full.shape[-2], full.shape[-1])
        return self.full(full, convolve_bins(pooled, list(self.matrices), self.kernel, size, align_corners))


class FastJPU(nn.Module):
    """JPU as one operator: resized maps and depthwise outputs exist in cache only (kernels/csrc/jpu/jpu.cpp).

    `lateral`: convolutions of the stages, finest first; `separable`: (depthwise, pointwise) of each dilation. With
    `following`, the first 1x1 convolution of a head with its ReLU, the output is that of `following`, and the output of
    JPU exists in cache only as well.
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
        # The kernel reads these maps in blocks of channels and resizes them while it does. Smaller maps
        # (without align_corners already the second) are convolved before they are resized.
        for layer in lateral[: 2 if align_corners else 1]:
            if isinstance(layer, WinogradConvolution) and layer.bias.numel() % packing.CHANNEL_BLOCK == 0:
                layer.channel_blocked = True
        self.following = following
        self.align_corners = align_corners
        self.dilations = [depthwise.dilation[0] for depthwise, _ in separable]
        # There is no activation in between, so the depthwise bias can move into the bias of the 1x1 convolution.
        biases = [_bias(pointwise) + pointwise.weight[:, :, 0, 0] @ _bias(depth) for depth, pointwise in separable]
        depthwise, pointwise = zip(*separable, strict=True)
        self.register_buffer("taps", torch.stack([packing.pack_depthwise(conv.weight) for conv in depthwise]))
        self.register_buffer("packed", torch.stack([packing.pack_pointwise(conv.weight) for conv in pointwise]))
        self.register_buffer("bias", torch.stack(biases))

    def forward(self, stages: list[Tensor]) -> Tensor:
        """`stages`: maps, finest first. The list is emptied, so that each map is freed as soon as it is used."""
        maps = [lateral(stages.pop(0)) for lateral in self.lateral]
        following = () if self.following is None else (self.following.packed, self.following.bias)
        return torch.ops.fastfcn.jpu(
            maps, self.taps, self.packed, self.bias, self.dilations, self.align_corners, *following
        )
