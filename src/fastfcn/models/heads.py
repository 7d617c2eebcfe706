"""Heads: from feature maps to class logits.

To add one, write a subclass of `Head` and enter it in `HEADS`; its arguments after `classes` are the keys of the
head's section in a recipe (recipes/schema.py). PSP and ASPP apply the bottleneck to their pooled branches at the
pooled size (ops.pyramid), which is the same by linearity; its weight has the shape it has over concatenated maps.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from fastfcn.models.layers import ContextBottleneck, ConvBNReLU, classifier
from fastfcn.ops.encoding import encode
from fastfcn.ops.pyramid import pyramid_pool
from fastfcn.ops.tiling import active_tile
from fastfcn.ops.upsample import upsample, upsample_features

LossKind = Literal["pixel", "se"]


class HeadOutput(NamedTuple):
    """What a head returns: logits (B, classes, h, w), and its extra outputs by name, which only training uses."""

    logits: Tensor
    extras: dict[str, Tensor]


class Head(nn.Module):
    """Base of all heads. `forward` maps features to a `HeadOutput`.

    The features are the neck's map (B, channels, h, w), or, if `needs_stages`, the backbone's four maps at strides 4,
    8, 16 and 32, or, if `needs_finest`, a pair of the neck's map and the backbone's map at stride 4. `align_corners`
    also applies when the network resizes the logits to the image's size.
    `extra_losses` gives the loss of each extra output: "pixel" for logits (B, classes, h, w) at any stride, trained
    as the main logits are; "se" for logits (B, classes) of which classes the image contains (EncNet's SE loss). A
    recipe holds the weight of the extra output NAME as `head.NAME_loss_weight`.
    """

    needs_stages: ClassVar[bool] = False
    needs_finest: ClassVar[bool] = False
    extra_losses: ClassVar[Mapping[str, LossKind]] = {}

    def __init__(self, align_corners: bool):
        super().__init__()
        self.align_corners = align_corners


class FCNHead(Head):
    """`depth` convolutions and a classifier (Long et al. 2015); also the auxiliary head."""

    def __init__(
        self, channels: int, classes: int, width: int, depth: int, kernel: int, dropout: float,
        align_corners: bool = False,
    ):  # fmt: skip
        super().__init__(align_corners)
        sizes = [channels] + [width] * depth
        self.convs = nn.Sequential(*(ConvBNReLU(a, b, kernel) for a, b in pairwise(sizes)))
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = classifier(sizes[-1], classes)

    def forward(self, features: Tensor) -> HeadOutput:
        return HeadOutput(self.classifier(self.dropout(self.convs(features))), {})


class PSPHead(Head):
    """Pyramid pooling (Zhao et al. 2017): bottleneck over [x, pools upsampled to x's size]."""

    def __init__(
        self, channels: int, classes: int, width: int, pools: Sequence[int], kernel: int, dropout: float,
        align_corners: bool,
    ):  # fmt: skip
        super().__init__(align_corners)
        self.pools = tuple(pools)
        self.pooled = nn.ModuleList(ConvBNReLU(channels, width) for _ in pools)
        self.bottleneck = ContextBottleneck([channels] + [width] * len(self.pools), 0, width, kernel)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = classifier(width, classes)

    def forward(self, features: Tensor) -> HeadOutput:
        return HeadOutput(self.classifier(self.dropout(self.context(features))), {})

    def context(self, features: Tensor) -> Tensor:
        """Output of the bottleneck over the map and its pools: (B, width, h, w)."""
        bins = pyramid_pool(features, self.pools)
        pooled = [project(map_) for project, map_ in zip(self.pooled, bins, strict=True)]
        return self.bottleneck(features, pooled, self.align_corners)


class ASPPHead(Head):
    """Atrous spatial pyramid pooling (DeepLabV3, Chen et al. 2017): bottleneck over [image pool, branches].

    The branch of dilation 1 is a 1x1 convolution.
    """

    def __init__(
        self, channels: int, classes: int, width: int, dilations: Sequence[int], kernel: int, dropout: float,
        align_corners: bool,
    ):  # fmt: skip
        super().__init__(align_corners)
        self.image_pool = ConvBNReLU(channels, width)
        self.branches = nn.ModuleList(
            ConvBNReLU(channels, width, 1 if dilation == 1 else 3, dilation=dilation) for dilation in dilations
        )
        self.bottleneck = ContextBottleneck([width, width * len(self.branches)], 1, width, kernel)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = classifier(width, classes)

    def forward(self, features: Tensor) -> HeadOutput:
        return HeadOutput(self.classifier(self.dropout(self.context(features))), {})

    def context(self, features: Tensor) -> Tensor:
        """Output of the bottleneck over all branches: (B, width, h, w)."""
        image = self.image_pool(pyramid_pool(features, (1,))[0])
        branches = torch.cat([branch(features) for branch in self.branches], dim=1)
        return self.bottleneck(branches, [image], self.align_corners)


class DeepLabV3Head(ASPPHead):
    """ASPP as in wuhuikai/FastFCN: a 1x1 projection with its own dropout, then a convolution of size `kernel`."""

    def __init__(
        self, channels: int, classes: int, width: int, dilations: Sequence[int], project_dropout: float, kernel: int,
        dropout: float, align_corners: bool,
    ):  # fmt: skip
        super().__init__(channels, classes, width, dilations, 1, dropout, align_corners)
        self.project_dropout = nn.Dropout2d(project_dropout)
        self.block = ConvBNReLU(width, width, kernel)

    def forward(self, features: Tensor) -> HeadOutput:
        projected = self.project_dropout(self.context(features))
        return HeadOutput(self.classifier(self.dropout(self.block(projected))), {})


class Encoding(nn.Module):
    """Encoding layer with learned codewords and scales (arXiv 1803.08904, equation 1); see ops.encoding."""

    def __init__(self, channels: int, codewords: int):
        super().__init__()
        bound = (codewords * channels) ** -0.5
        self.codewords = nn.Parameter(torch.empty(codewords, channels).uniform_(-bound, bound))
        self.scale = nn.Parameter(torch.empty(codewords).uniform_(-1, 0))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, codewords, C)."""
        if (tile := active_tile()) is not None:
            return tile.total(features, lambda part, *_: [self._encode(part)])[0]
        return self._encode(features)

    def _encode(self, features: Tensor) -> Tensor:
        return encode(features.flatten(2).transpose(1, 2), self.codewords, self.scale)


class EncHead(Head):
    """Context encoding (EncNet, Zhang et al. 2018): scales each channel by a gate computed from the whole image.

    Its extra output "se", logits (B, classes), predicts which classes the image contains.
    """

    extra_losses: ClassVar[Mapping[str, LossKind]] = {"se": "se"}

    def __init__(
        self, channels: int, classes: int, width: int, codewords: int, kernel: int, dropout: float,
        align_corners: bool = False,
    ):  # fmt: skip
        super().__init__(align_corners)
        self.bottleneck = ConvBNReLU(channels, width, kernel)
        self.project = ConvBNReLU(width, width)
        self.encoding = Encoding(width, codewords)
        self.encoding_bn = nn.BatchNorm1d(codewords)
        self.gate = nn.Linear(width, width)
        self.se_layer = nn.Linear(width, classes)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = classifier(width, classes)

    def forward(self, features: Tensor) -> HeadOutput:
        narrow = self.bottleneck(features)
        encoded = self.encoding_bn(self.encoding(self.project(narrow))).relu().mean(1)
        gamma = self.gate(encoded).sigmoid()
        extras = {"se": self.se_layer(encoded)}
        # relu(x + x * gamma) is x * (1 + gamma), since x is not negative.
        if self.training:
            return HeadOutput(self.classifier(self.dropout(narrow * (1 + gamma)[:, :, None, None])), extras)
        # Without dropout the scale can be applied to the classifier's weight, which reads the map one time less.
        weight = self.classifier.weight[:, :, 0, 0] * (1 + gamma)[:, None]
        logits = narrow.permute(0, 2, 3, 1).flatten(1, 2) @ weight.transpose(1, 2) + self.classifier.bias
        return HeadOutput(logits.unflatten(1, narrow.shape[-2:]).permute(0, 3, 1, 2), extras)


class EncSkipHead(Head):
    """EncNet's head with a skip connection: details of the backbone's map at stride 4 are added to its logits.

    Thin objects, such as poles, are lost at stride 8. The logits are at stride 4; those of the Enc head alone are the
    extra output "coarse".
    """

    needs_finest: ClassVar[bool] = True
    extra_losses: ClassVar[Mapping[str, LossKind]] = {"se": "se", "coarse": "pixel"}

    def __init__(
        self, channels: tuple[int, int], classes: int, width: int, codewords: int, kernel: int, dropout: float,
        align_corners: bool, skip_width: int,
    ):  # fmt: skip
        super().__init__(align_corners)
        joined, finest = channels
        self.enc = EncHead(joined, classes, width, codewords, kernel, dropout, align_corners)
        self.skip = nn.Sequential(ConvBNReLU(finest, skip_width, 3), ConvBNReLU(skip_width, skip_width, 3))
        self.classifier = classifier(skip_width, classes)

    def forward(self, features: tuple[Tensor, Tensor]) -> HeadOutput:  # type: ignore[override] # a pair of maps
        joined, finest = features
        coarse, extras = self.enc(joined)
        logits = self.classifier(self.skip(finest)) + upsample(coarse, finest.shape[-2:], self.align_corners)
        return HeadOutput(logits, extras | {"coarse": coarse})


class OCRHead(Head):
    """Object-contextual representations (OCR, Yuan et al. 2020, arXiv 1909.11065).

    Each class has an object region: the mean of the pixels, weighted by coarse logits. Each pixel attends to these
    regions. The coarse logits are the extra output "regions" (deep supervision).
    """

    extra_losses: ClassVar[Mapping[str, LossKind]] = {"regions": "pixel"}

    def __init__(
        self, channels: int, classes: int, width: int, key_width: int, kernel: int, dropout: float, align_corners: bool
    ):
        super().__init__(align_corners)
        self.regions = nn.Sequential(ConvBNReLU(channels, width), classifier(width, classes))
        self.bottleneck = ConvBNReLU(channels, width, kernel)
        self.query = nn.Sequential(ConvBNReLU(width, key_width), ConvBNReLU(key_width, key_width))
        self.key = nn.Sequential(ConvBNReLU(width, key_width), ConvBNReLU(key_width, key_width))
        self.value = ConvBNReLU(width, key_width)
        self.project = ConvBNReLU(key_width, width)
        self.fuse = ConvBNReLU(2 * width, width)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = classifier(width, classes)

    def forward(self, features: Tensor) -> HeadOutput:
        region_logits, pixels = self.regions(features), self.bottleneck(features)
        regions = self.object_regions(region_logits, pixels)
        augmented = self.fuse(torch.cat([self.context(pixels, regions), pixels], dim=1))  # equation 4
        return HeadOutput(self.classifier(self.dropout(augmented)), {"regions": region_logits})

    def object_regions(self, logits: Tensor, pixels: Tensor) -> Tensor:
        """Equation 2: (B, classes, h, w) and (B, width, h, w) -> (B, width, classes, 1)."""
        weights = logits.flatten(2).softmax(2)
        return (pixels.flatten(2) @ weights.transpose(1, 2))[..., None]

    def context(self, pixels: Tensor, regions: Tensor) -> Tensor:
        """Equations 3 and 5, with the logits of the attention scaled by 1 / sqrt(key_width): (B, width, h, w)."""
        query, key, value = self.query(pixels), self.key(regions).flatten(2), self.value(regions).flatten(2)
        relation = (query.flatten(2).transpose(1, 2) @ key * key.shape[1] ** -0.5).softmax(2)  # (B, h * w, classes)
        context = (value @ relation.transpose(1, 2)).unflatten(2, pixels.shape[-2:])
        return self.project(context)


class UPerHead(PSPHead):
    """UPerNet (Xiao et al. 2018, arXiv 1807.10221): pyramid pooling of the last stage, then an FPN over all four.

    The logits are at the size of the first stage (stride 4).
    """

    needs_stages: ClassVar[bool] = True

    def __init__(
        self, channels: Sequence[int], classes: int, width: int, pools: Sequence[int], kernel: int, dropout: float,
        align_corners: bool,
    ):  # fmt: skip
        super().__init__(channels[-1], classes, width, pools, kernel, dropout, align_corners)
        self.lateral = nn.ModuleList(ConvBNReLU(inputs, width) for inputs in channels[:-1])
        self.smooth = nn.ModuleList(ConvBNReLU(width, width, kernel) for _ in channels[:-1])
        self.fuse = ConvBNReLU(width * len(channels), width, kernel)

    def forward(self, stages: Sequence[Tensor]) -> HeadOutput:  # type: ignore[override] # reads all stages
        maps = [self.context(stages[-1])]  # coarsest first
        for stage, lateral in zip(stages[-2::-1], reversed(self.lateral), strict=True):
            maps.append(lateral(stage) + upsample_features(maps[-1], stage.shape[-2:], self.align_corners))
        pyramid = [smooth(map_) for smooth, map_ in zip(self.smooth, reversed(maps[1:]), strict=True)] + maps[:1]
        size = pyramid[0].shape[-2:]
        fused = self.fuse(torch.cat([upsample_features(map_, size, self.align_corners) for map_ in pyramid], dim=1))
        return HeadOutput(self.classifier(self.dropout(fused)), {})


HEADS: dict[str, type[Head]] = {  # by `head.kind` of a recipe
    "psp": PSPHead,
    "aspp": ASPPHead,
    "deeplabv3": DeepLabV3Head,
    "enc": EncHead,
    "enc_skip": EncSkipHead,
    "fcn": FCNHead,
    "ocr": OCRHead,
    "upernet": UPerHead,
}
