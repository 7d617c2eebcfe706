"""Residual blocks of a ResNet for inference on a processor, of the layers in `fast`."""

import torch
from torch import Tensor, nn

from fastfcn.fast.layers import LONGEST_TILE, PointwiseConvolution, PointwisePair, WinogradConvolution


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


class FastStage(nn.Module):
    """A stage of bottleneck blocks, as one operator; the first of them has a 1x1 convolution in its shortcut."""

    def __init__(self, blocks: list[FastBlock]):
        super().__init__()
        self.stride = blocks[0].last.stride
        self.dilations = [block.convolutions[1].dilation for block in blocks]
        layers = [[*block.convolutions, block.last] for block in blocks]
        weights = [part for reduce, middle, last in layers for part in (reduce.packed, middle.taps, last.packed)]
        biases = [layer.bias for each in layers for layer in each]
        self.count = len(weights) + 1
        for index, tensor in enumerate([*weights, blocks[0].last.shortcut_packed, *biases]):
            self.register_buffer(str(index), tensor)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        tensors = list(self._buffers.values())  # at once: one after the other they take longer than the call
        weights, biases = tensors[: self.count], tensors[self.count :]
        return torch.ops.fastfcn.bottleneck_stage(features, weights, biases, self.stride, self.dilations, LONGEST_TILE)


def residual_stage(blocks: list[FastBlock]) -> nn.Module:
    """The blocks, one after the other, in the fastest way."""
    one_operator = all(_is_bottleneck(block) for block in blocks)
    kinds = [PointwisePair] + [PointwiseConvolution] * (len(blocks) - 1)
    if one_operator and all(type(block.last) is kind for block, kind in zip(blocks, kinds, strict=True)):
        return FastStage(blocks)
    return nn.Sequential(*blocks)


def _is_bottleneck(block: FastBlock) -> bool:
    """Whether it is of a 1x1, a 3x3 and a 1x1 convolution that the operator can take."""
    match list(block.convolutions):
        case [PointwiseConvolution(stride=1), WinogradConvolution()]:
            return block.shortcut is None
    return False
