"""JPU_X: Joint Pyramid Upsampling in two steps, as in FastFCN's official code."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastfcn.models.layers import ConvBNReLU, depthwise
from fastfcn.ops.upsample import upsample_features


class JPUX(nn.Module):
    """Joins three maps into one at the size of the finest: the first two, then the result with the third.

    `channels`: of the maps, finest first (strides 8, 16 and 32). `JPU_X` of wuhuikai/FastFCN (2020) is newer than the
    paper. The first step has half the `width`, the second twice the `dilations`. `groups`: of the group norms.
    `out_channels` is `width` times (1 + number of dilations).
    """

    def __init__(self, channels: Sequence[int], width: int, dilations: Sequence[int], groups: int, align_corners: bool):
        super().__init__()
        finest, middle, coarsest = channels
        first = JointUpsampling(middle, finest, width // 2, dilations, groups, align_corners)
        twice = [2 * dilation for dilation in dilations]
        second = JointUpsampling(coarsest, first.out_channels, width, twice, groups, align_corners)
        self.steps = nn.ModuleList([first, second])
        self.out_channels = second.out_channels

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Maps [(B, C_i, H_i, W_i)], finest first -> (B, out_channels, H_0, W_0)."""
        joined, *coarser = stages
        for step, coarse in zip(self.steps, coarser, strict=True):
            joined = step(coarse, joined)
        return joined


class JointUpsampling(nn.Module):
    """Concatenation of the upsampled coarse map and of dilated convolutions over both maps."""

    def __init__(self, coarse: int, fine: int, width: int, dilations: Sequence[int], groups: int, align_corners: bool):
        super().__init__()
        self.align_corners = align_corners
        self.coarse = ConvBNReLU(coarse, width, 3)
        self.fine = ConvBNReLU(fine, width, 3)
        self.dilated = nn.ModuleList(GroupNormSeparable(2 * width, width, dilation, groups) for dilation in dilations)
        self.out_channels = width * (1 + len(dilations))

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(B, coarse, h, w) and (B, fine, H, W) -> (B, out_channels, H, W)."""
        fine = self.fine(fine)
        coarse = upsample_features(self.coarse(coarse), fine.shape[-2:], self.align_corners)
        both = torch.cat([coarse, fine], dim=1)
        return torch.cat([coarse, *(branch(both) for branch in self.dilated)], dim=1)


class GroupNormSeparable(nn.Module):
    """Depthwise dilated 3x3 convolution, then 1x1, each with a group norm, and ReLU after the last."""

    def __init__(self, inputs: int, outputs: int, dilation: int, groups: int):
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=dilation, dilation=dilation, groups=inputs, bias=False)
        self.depthwise_norm = nn.GroupNorm(groups, inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.pointwise_norm = nn.GroupNorm(groups, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        narrow = self.pointwise(self.depthwise_norm(depthwise(self.depthwise, features)))
        return self.pointwise_norm(narrow).relu()
