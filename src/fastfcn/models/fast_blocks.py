"""Residual blocks of a ResNet for inference on a processor, of the layers in `fast`."""

import torch
from torch import Tensor, nn

from fastfcn.models.fast import LONGEST_TILE, PointwiseConvolution, PointwisePair, WinogradConvolution


class FastBlock(nn.Module):
    """A residual block of a ResNet: its convolutions in a row, the shortcut added in the last one's pass.

    Where nothing stands in the shortcut, the features are written over, so they must not be needed later. A stage's map
    is; the block that reads it first has a convolution in its shortcut, since its channels become more.
    """

    def __init__(self, convolutions: list[nn.Module], shortcut: nn.Module | None):
        super().__init__()
        self.convolutions = nn.Sequential(*convolutions[:-1])
        self.last = convolutions[-1]
        self.shortcut = shortcut
        if isinstance(self.last, PointwiseConvolution) and isinstance(shortcut, PointwiseConvolution):
            self.last, self.shortcut = PointwisePair(self.last, shortcut), None

    def forward(self, features: Tensor) -> Tensor:
        shortcut = features if self.shortcut is None else self.shortcut(features)
        return self.last(self.convolutions(features), shortcut)


class FastBottleneck(nn.Module):
    """A residual block of a 1x1, a 3x3 and a 1x1 convolution and nothing in its shortcut: features are written over."""

    def __init__(self, reduce: PointwiseConvolution, middle: WinogradConvolution, expand: PointwiseConvolution):
        super().__init__()
        self.dilation = middle.dilation
        self.register_buffer("reduce", reduce.packed)
        self.register_buffer("reduce_bias", reduce.bias)
        self.register_buffer("taps", middle.taps)
        self.register_buffer("taps_bias", middle.bias)
        self.register_buffer("expand", expand.packed)
        self.register_buffer("expand_bias", expand.bias)

    def forward(self, features: Tensor) -> Tensor:
        features = features.float()  # from an operator under autocast
        weights = [self.reduce, self.taps, self.expand]
        biases = [self.reduce_bias, self.taps_bias, self.expand_bias]
        torch.ops.fastfcn.bottleneck_onto(features, weights, biases, self.dilation, LONGEST_TILE)
        return features


def residual_block(convolutions: list[nn.Module], shortcut: nn.Module | None) -> FastBlock | FastBottleneck:
    """The fastest block of `convolutions`, each with a ReLU behind it."""
    match convolutions:
        case [PointwiseConvolution(stride=1), WinogradConvolution(stride=1, every=1), PointwiseConvolution(stride=1)]:
            if shortcut is None:
                return FastBottleneck(*convolutions)  # type: ignore[arg-type]
    return FastBlock(convolutions, shortcut)
