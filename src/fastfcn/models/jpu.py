"""Joint Pyramid Upsampling (FastFCN, arXiv 1903.11816, section 3.3)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastfcn.models.layers import ConvBNReLU, SeparableConv
from fastfcn.ops.upsample import upsample_features


class JPU(nn.Module):
    """Joins the maps of a pyramid into one map at the size of the finest (figure 4 of the paper).

    `channels`: of the maps, finest first (strides 8, 16 and 32 in the paper). Works with any pyramid, for example of a
    `timm` network with `features_only=True`:

        backbone = timm.create_model("resnet18", features_only=True, out_indices=(2, 3, 4))
        jpu = JPU(backbone.feature_info.channels(), width=128)
        joined = jpu(backbone(images))  # (B, 512, H/8, W/8)

    `out_channels` is `width` times the number of dilations.
    """

    def __init__(
        self,
        channels: Sequence[int],
        width: int = 512,
        dilations: Sequence[int] = (1, 2, 4, 8),
        align_corners: bool = False,
    ):
        super().__init__()
        self.align_corners = align_corners
        self.out_channels = width * len(dilations)
        self.lateral = nn.ModuleList(ConvBNReLU(inputs, width, 3) for inputs in channels)
        joined = width * len(channels)
        self.dilated = nn.ModuleList(SeparableConv(joined, width, dilation) for dilation in dilations)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Maps [(B, C_i, H_i, W_i)], finest first -> (B, out_channels, H_0, W_0)."""
        maps = [lateral(stage) for lateral, stage in zip(self.lateral, stages, strict=True)]
        size = maps[0].shape[-2:]
        joined = torch.cat([upsample_features(map_, size, self.align_corners) for map_ in maps], dim=1)
        # ReLU after concatenation stores for backward the same map as the head, instead of one more per branch.
        return torch.cat([branch(joined) for branch in self.dilated], dim=1).relu_()


class NoNeck(nn.Module):
    """Passes on the backbone's last map, as in dilated networks. `channels`: of the backbone's maps."""

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        self.out_channels = channels[-1]

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Maps, finest first -> the last one."""
        return stages[-1]
