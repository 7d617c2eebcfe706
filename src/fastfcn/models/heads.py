"""Context heads: from one map at stride 8 to class logits at the same size.

Each head returns `(logits, presence)`: logits (B, classes, h, w) and, from the Enc head, logits (B, classes) for
which classes the image holds; None from the others. PSP and ASPP send their pooled branches through the
bottleneck by linearity (ops.pyramid): the weight keeps the shape it has over the concatenated maps.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from fastfcn.models.layers import ContextBottleneck, ConvBNReLU, classifier
from fastfcn.ops.encoding import encode
from fastfcn.ops.pyramid import pyramid_pool

HeadOutput = tuple[Tensor, Tensor | None]


class FCNHead(nn.Module):
    """`depth` convolutions and a classifier (Long et al. 2015); also the auxiliary head."""

    def __init__(self, inputs: int, classes: int, width: int, depth: int, kernel: int, dropout: float):
        super().__init__()
        sizes = [inputs] + [width] * depth
        self.convs = nn.Sequential(*(ConvBNReLU(a, b, kernel) for a, b in pairwise(sizes)))
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = classifier(sizes[-1], classes)

    def forward(self, features: Tensor) -> HeadOutput:
        return self.classifier(self.dropout(self.convs(features))), None


class PSPHead(nn.Module):
    """Pyramid pooling (Zhao et al. 2017): bottleneck over [x, pools upsampled to x's size]."""

    def __init__(
        self, inputs: int, classes: int, width: int, pools: Sequence[int], kernel: int, dropout: float,
        align_corners: bool,
    ):  # fmt: skip
        super().__init__()
        self.pools = tuple(pools)
        self.align_corners = align_corners
        self.pooled = nn.ModuleList(ConvBNReLU(inputs, width) for _ in pools)
        self.bottleneck = ContextBottleneck([inputs] + [width] * len(self.pools), 0, width, kernel)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = classifier(width, classes)

    def forward(self, features: Tensor) -> HeadOutput:
        bins = pyramid_pool(features, self.pools)
        pooled = [project(each) for project, each in zip(self.pooled, bins, strict=True)]
        return self.classifier(self.dropout(self.bottleneck(features, pooled, self.align_corners))), None


class ASPPHead(nn.Module):
    """Atrous spatial pyramid pooling (DeepLabV3, Chen et al. 2017): bottleneck over [image pool, branches].

    A dilation of 1 stands for a 1x1 convolution.
    """

    def __init__(
        self, inputs: int, classes: int, width: int, dilations: Sequence[int], kernel: int, dropout: float,
        align_corners: bool,
    ):  # fmt: skip
        super().__init__()
        self.align_corners = align_corners
        self.image_pool = ConvBNReLU(inputs, width)
        self.branches = nn.ModuleList(
            ConvBNReLU(inputs, width, 1 if dilation == 1 else 3, dilation=dilation) for dilation in dilations
        )
        self.bottleneck = ContextBottleneck([width, width * len(self.branches)], 1, width, kernel)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = classifier(width, classes)

    def forward(self, features: Tensor) -> HeadOutput:
        return self.classifier(self.dropout(self.joined(features))), None

    def joined(self, features: Tensor) -> Tensor:
        """The bottleneck over all branches: (B, width, h, w)."""
        image = self.image_pool(pyramid_pool(features, (1,))[0])
        branches = torch.cat([branch(features) for branch in self.branches], dim=1)
        return self.bottleneck(branches, [image], self.align_corners)


class DeepLabV3Head(ASPPHead):
    """ASPP as FastFCN's own code has it: a 1x1 projection with its own dropout, and one more convolution after it.

    Its branches are narrow there (256 channels of 2048). `kernel` is that of the last convolution.
    """

    def __init__(
        self, inputs: int, classes: int, width: int, dilations: Sequence[int], project_dropout: float, kernel: int,
        dropout: float, align_corners: bool,
    ):  # fmt: skip
        super().__init__(inputs, classes, width, dilations, 1, dropout, align_corners)
        self.project_dropout = nn.Dropout2d(project_dropout)
        self.block = ConvBNReLU(width, width, kernel)

    def forward(self, features: Tensor) -> HeadOutput:
        projected = self.project_dropout(self.joined(features))
        return self.classifier(self.dropout(self.block(projected))), None


class Encoding(nn.Module):
    """Learned codewords and scales of the Encoding layer; see ops.encoding."""

    def __init__(self, channels: int, codes: int):
        super().__init__()
        spread = (codes * channels) ** -0.5
        self.codewords = nn.Parameter(torch.empty(codes, channels).uniform_(-spread, spread))
        self.scale = nn.Parameter(torch.empty(codes).uniform_(-1, 0))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, codes, C)."""
        return encode(features.flatten(2).transpose(1, 2), self.codewords, self.scale)


class EncHead(nn.Module):
    """Context encoding (EncNet, Zhang et al. 2018): channels are scaled by what the whole image holds."""

    def __init__(self, inputs: int, classes: int, width: int, codes: int, kernel: int, dropout: float):
        super().__init__()
        self.bottleneck = ConvBNReLU(inputs, width, kernel)
        self.project = ConvBNReLU(width, width)
        self.encoding = Encoding(width, codes)
        self.encoding_bn = nn.BatchNorm1d(codes)
        self.gate = nn.Linear(width, width)
        self.presence = nn.Linear(width, classes)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = classifier(width, classes)

    def forward(self, features: Tensor) -> HeadOutput:
        narrow = self.bottleneck(features)
        codes = self.encoding_bn(self.encoding(self.project(narrow))).relu().mean(1)
        gamma = self.gate(codes).sigmoid()
        # x is not negative, so relu(x + x * gamma) is x * (1 + gamma).
        if self.training:
            return self.classifier(self.dropout(narrow * (1 + gamma)[:, :, None, None])), self.presence(codes)
        # Nothing stands between scale and classifier: the scale goes into its weight, and the map is read once less.
        weight = self.classifier.weight[:, :, 0, 0] * (1 + gamma)[:, None]
        logits = narrow.permute(0, 2, 3, 1).flatten(1, 2) @ weight.transpose(1, 2) + self.classifier.bias
        return logits.unflatten(1, narrow.shape[-2:]).permute(0, 3, 1, 2), self.presence(codes)
