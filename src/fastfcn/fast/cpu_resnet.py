"""Residual blocks and stages of a ResNet for inference on a CPU."""

import torch
from torch import Tensor, nn

from fastfcn.fast.cpu_layers import MAX_TILE, PointwiseConvolution, PointwisePair, WinogradConvolution


class FastBlock(nn.Module):
    """A residual block of a ResNet: convolutions in sequence; the last one adds the shortcut in its pass.

    Without a convolution in the shortcut (`shortcut=None`), the input is overwritten. The output of a stage, which the
    neck reads later, is safe: the block after it changes the number of channels, so its shortcut has a convolution.
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
    """A stage of bottleneck blocks as one operator; the first block has a 1x1 convolution in its shortcut."""

    def __init__(self, blocks: list[FastBlock]):
        super().__init__()
        self.stride = blocks[0].last.stride
        self.dilations = [block.convolutions[1].dilation for block in blocks]
        layers = [[*block.convolutions, block.last] for block in blocks]
        weights = [weight for reduce, middle, last in layers for weight in (reduce.packed, middle.taps, last.packed)]
        biases = [layer.bias for block in layers for layer in block]
        self.count = len(weights) + 1
        for index, tensor in enumerate([*weights, blocks[0].last.shortcut_packed, *biases]):
            self.register_buffer(str(index), tensor)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        tensors = list(self._buffers.values())  # all at once: attribute access one by one takes longer than the call
        weights, biases = tensors[: self.count], tensors[self.count :]
        return torch.ops.fastfcn.bottleneck_stage(features, weights, biases, self.stride, self.dilations, MAX_TILE)


def residual_stage(blocks: list[FastBlock]) -> nn.Module:
    """The blocks in sequence: as one operator if they are bottlenecks that it supports, else as nn.Sequential."""
    one_operator = all(_is_bottleneck(block) for block in blocks)
    kinds = [PointwisePair] + [PointwiseConvolution] * (len(blocks) - 1)
    if one_operator and all(type(block.last) is kind for block, kind in zip(blocks, kinds, strict=True)):
        return FastStage(blocks)
    return nn.Sequential(*blocks)


def _is_bottleneck(block: FastBlock) -> bool:
    """Whether the block has a 1x1, a 3x3 and a 1x1 convolution that `bottleneck_stage` supports."""
    match list(block.convolutions):
        case [PointwiseConvolution(stride=1), WinogradConvolution()]:
            return block.shortcut is None
    return False
