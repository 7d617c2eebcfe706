"""Layers that the necks and heads share, and their weight initialization."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastfcn.ops.pyramid import convolve_upsampled


class ConvBNReLU(nn.Sequential):
    """Convolution without bias, batch norm, and ReLU unless `activate` is false; size-preserving padding."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        dilation: int = 1,
        groups: int = 1,
        activate: bool = True,
    ):
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        if activate:
            self.relu = nn.ReLU(inplace=True)


class SeparableConv(nn.Module):
    """Depthwise dilated 3x3 convolution, batch norm, 1x1 convolution, batch norm; no activation."""

    def __init__(self, inputs: int, outputs: int, dilation: int):
        super().__init__()
        self.depthwise = ConvBNReLU(inputs, inputs, 3, dilation=dilation, groups=inputs, activate=False)
        self.pointwise = ConvBNReLU(inputs, outputs, activate=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        return self.pointwise(depthwise(self.depthwise, features))


def depthwise(layer: nn.Module, features: Tensor) -> Tensor:
    """Apply `layer`, a depthwise convolution, to `features`; in float32 even under autocast on a CPU.

    In bf16, the weight gradient of a depthwise convolution with dilation 8 reads uninitialized memory (torch 2.15 with
    oneDNN on a CPU with AVX-512 bf16) and is sometimes 1e30 or NaN.
    """
    if torch.is_autocast_enabled("cpu") and features.device.type == "cpu":
        with torch.autocast("cpu", enabled=False):
            return layer(features.float())
    return layer(features)


def classifier(inputs: int, classes: int) -> nn.Conv2d:
    """The last 1x1 convolution, from features to logits."""
    return nn.Conv2d(inputs, classes, 1)


def openmmlab_weights(part: nn.Module) -> None:
    """Initialize weights as mmcv does: Kaiming normal with `fan_out`; classifiers with a std of 0.01.

    PyTorch's default uses `fan_in`. For layers with many inputs and few outputs its weights are up to ten times
    smaller, so that, before a batch norm, a training step changes their direction a hundred times as much.
    """
    for layer in part.modules():
        if isinstance(layer, ConvBNReLU):
            nn.init.kaiming_normal_(layer.conv.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Conv2d) and layer.bias is not None:  # only classifiers have a bias
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)


class ContextBottleneck(ConvBNReLU):
    """Convolution over a full map and pooled maps upsampled to its size, without upsampling them (ops.pyramid).

    `widths`: channels of the maps in the order of the weight; `full`: index of the full map.
    """

    def __init__(self, widths: Sequence[int], full: int, outputs: int, kernel: int):
        super().__init__(sum(widths), outputs, kernel)
        self.widths, self.full = tuple(widths), full

    def parts(self) -> tuple[Tensor, list[Tensor]]:
        """The weight for the full map, and the weights for the pooled maps."""
        weights = list(self.conv.weight.split(self.widths, dim=1))
        return weights.pop(self.full), weights

    def forward(  # type: ignore[override] # takes two kinds of maps
        self, full: Tensor, pooled: Sequence[Tensor], align_corners: bool
    ) -> Tensor:
        """(B, C, H, W) and maps (B, C_i, s, s) -> (B, outputs, H, W)."""
        weight, weights = self.parts()
        direct = self.conv._conv_forward(full, weight, self.conv.bias)
        size = (full.shape[-2], full.shape[-1])
        return self.relu(self.bn(direct + convolve_upsampled(pooled, weights, size, align_corners)))
