"""Backbones: any timm network with maps at strides 4, 8, 16 and 32; ResNets with custom strides and dilations."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

import timm
import torch
from torch import Tensor, nn

from fastfcn.utils.modules import add_base_class

STRIDES = (4, 8, 16, 32)
UNEVEN = (33, 63)  # a size that no stride divides; maps rounded up: 9x16, 5x8, 3x4, 2x2


def backbone(name: str) -> Any:
    """The `timm` network `name` without its classifier, with random weights.

    It maps images (B, 3, H, W) of any size to four maps (B, C, ceil(H / stride), ceil(W / stride)) at strides 4, 8, 16
    and 32, finest first. If the network would round down or refuse the size, images are padded with zeros (the mean
    of normalized images) on the right and at the bottom to a multiple of 32, and the maps are cropped. The channels
    are `.feature_info.channels()`; weights have timm's names. Raises ValueError if the network has no such maps or
    does not accept images of any size, and RuntimeError if timm has no network of that name.
    """
    traits = _traits(name)
    options: dict[str, Any] = {"strict_img_size": False} if traits.strict else {}
    net = timm.create_model(name, features_only=True, pretrained=False, out_indices=traits.indices, **options)
    if traits.uneven and not traits.channels_last:
        return net
    add_base_class(net, _AnySize, channels_last=traits.channels_last)
    return net


class _AnySize(nn.Module):
    """Mixin for a timm network's class: accepts images of any size, returns maps rounded up, channels first."""

    channels_last: bool

    def forward(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[-2:]
        maps = super().forward(nn.functional.pad(images, (0, -width % STRIDES[-1], 0, -height % STRIDES[-1])))
        if self.channels_last:
            maps = [map_.permute(0, 3, 1, 2) for map_ in maps]
        sizes = _rounded_up((height, width))
        return [map_[..., :rows, :columns] for map_, (rows, columns) in zip(maps, sizes, strict=True)]


class _Traits(NamedTuple):
    """Properties of a timm network, found before it is created.

    `indices`: its maps at strides 4 to 32; `strict`: needs `strict_img_size=False` to accept any size;
    `channels_last`: layout of its maps; `uneven`: accepts sizes that 32 does not divide, and rounds up.
    """

    indices: tuple[int, ...]
    strict: bool
    channels_last: bool
    uneven: bool


@cache
def _traits(name: str) -> _Traits:
    """Determined on the meta device, without computing; raises as `backbone` does."""
    with torch.device("meta"):
        network: Any = timm.create_model(name, features_only=True, pretrained=False)
        reductions = network.feature_info.reduction()
        indices = tuple(index for index, reduction in enumerate(reductions) if reduction in STRIDES)
        if len(indices) != len(STRIDES):
            raise ValueError(f"{name} has maps at strides {reductions}, not at {list(STRIDES)}")
        # Networks with windows, such as Swin.
        strict = getattr(getattr(network, "patch_embed", None), "strict_img_size", False)
        if strict:
            network = timm.create_model(name, features_only=True, pretrained=False, strict_img_size=False)
    channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"
    sizes = [_map_sizes(network.eval(), size, channels_last) for size in (UNEVEN, (64, 96))]
    if sizes[1] is None:
        raise ValueError(f"{name} does not accept images of any size")
    return _Traits(indices, strict, channels_last, sizes[0] is not None and sizes[0][-4:] == _rounded_up(UNEVEN))


def _map_sizes(network: Any, size: tuple[int, int], channels_last: bool) -> list[tuple[int, ...]] | None:
    """(height, width) of each map of a network on the meta device for an image of `size`; None if it fails."""
    try:
        with torch.no_grad():
            maps = network(torch.empty(1, 3, *size, device="meta"))
    except (RuntimeError, AssertionError, ValueError):  # what timm raises for unsupported sizes
        return None
    return [tuple(map_.shape[1:3] if channels_last else map_.shape[2:4]) for map_ in maps]


def _rounded_up(size: tuple[int, int]) -> list[tuple[int, ...]]:
    return [tuple(math.ceil(side / stride) for side in size) for stride in STRIDES]


def resnet_backbone(
    name: str,
    strides: Sequence[int] = (1, 2, 2, 2),
    dilations: Sequence[int] = (1, 1, 1, 1),
    style: Literal["pytorch", "caffe"] = "pytorch",
) -> Any:
    """A ResNet with the stride and dilation of each of its four stages set.

    As in mmsegmentation, the first block of a stage has half of the stage's dilation (`contract_dilation`). Stride 32
    with dilations (1, 1, 2, 4) is its FastFCN backbone; strides (1, 2, 1, 1) with these is the dilated baseline.
    The first bottleneck of a stage has its stride in the 3x3 convolution (`style` "pytorch") or in the first 1x1
    ("caffe").
    Raises ValueError if the strides of the network cannot be set, and as `backbone` does.
    """
    net = backbone(name)
    if not hasattr(net, "layer4") or isinstance(net, _AnySize):
        raise ValueError(f"{name} is not a ResNet")
    for index, (stride, dilation) in enumerate(zip(strides, dilations, strict=True), start=1):
        stage = getattr(net, f"layer{index}")
        if not _can_stride(stage[0], stride):
            raise ValueError(f"{name} cannot have stride {stride} in layer{index}")
        _set_stride(stage[0], stride, style)
        for position, block in enumerate(stage):
            _set_dilation(block, dilation // 2 if position == 0 and dilation > 1 else dilation, dilation)
    return net


def _can_stride(block: Any, stride: int) -> bool:
    """Whether `stride` can be set in convolutions alone: not with anti-aliasing, pooling shortcuts or missing ones."""
    if not isinstance(getattr(block, "aa", None), nn.Identity | None) or not isinstance(block.conv2, nn.Conv2d):
        return False
    shortcut = block.downsample[0] if block.downsample else None
    return isinstance(shortcut, nn.Conv2d) or stride == getattr(shortcut, "stride", 1)


def _set_stride(block: Any, stride: int, style: str) -> None:
    bottleneck = hasattr(block, "conv3")
    for name in ("conv1", "conv2") if bottleneck else ("conv1",):
        getattr(block, name).stride = (1, 1)
    getattr(block, "conv2" if bottleneck and style == "pytorch" else "conv1").stride = (stride, stride)
    if block.downsample is not None:
        block.downsample[0].stride = (stride, stride)


def _set_dilation(block: Any, first: int, dilation: int) -> None:
    """Set the dilation of the block's first 3x3 convolution to `first`, of a second one to `dilation`."""
    convolutions = [block.conv2] if hasattr(block, "conv3") else [block.conv1, block.conv2]
    for convolution, value in zip(convolutions, (first, dilation), strict=False):
        convolution.dilation = convolution.padding = (value, value)
