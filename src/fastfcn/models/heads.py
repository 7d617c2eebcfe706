"""Context heads: from one map at stride 8 to class scores at the same size.

Each head returns `(scores, presence)`: scores (B, classes, h, w) and, from the Enc head, scores (B, classes) for
which classes the image holds; None from the others. PSP and ASPP send their pooled branches through the
bottleneck by linearity (ops.pyramid): the weight keeps the shape it has over the concatenated maps.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from fastfcn.models.layers import ConvBNReLU, classifier, context_bottleneck
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
        self.bottleneck = ConvBNReLU(inputs + width * len(self.pools), width, kernel)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = classifier(width, classes)

    def forward(self, features: Tensor) -> HeadOutput:
        bins = pyramid_pool(features, self.pools)
        pooled = [project(each) for project, each in zip(self.pooled, bins, strict=True)]
        widths = [features.shape[1]] + [each.shape[1] for each in pooled]
        first, *rest = self.bottleneck.conv.weight.split(widths, dim=1)
        joined = context_bottleneck(self.bottleneck, features, first, pooled, rest, self.align_corners)
        return self.classifier(self.dropout(joined)), None


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
        self.bottleneck = ConvBNReLU(width * (len(self.branches) + 1), width, kernel)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = classifier(width, classes)

    def forward(self, features: Tensor) -> HeadOutput:
        return self.classifier(self.dropout(self.joined(features))), None

    def joined(self, features: Tensor) -> Tensor:
        """The bottleneck over all branches: (B, width, h, w)."""
        image = self.image_pool(pyramid_pool(features, (1,))[0])
        branches = torch.cat([branch(features) for branch in self.branches], dim=1)
        first, rest = self.bottleneck.conv.weight.split([image.shape[1], branches.shape[1]], dim=1)
        return context_bottleneck(self.bottleneck, branches, rest, [image], [first], self.align_corners)


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
        scaled = narrow * (1 + gamma)[:, :, None, None]
        return self.classifier(self.dropout(scaled)), self.presence(codes)
