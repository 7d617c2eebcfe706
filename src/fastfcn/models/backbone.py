"""Any timm network as maps at strides 4, 8, 16 and 32, with strides and dilations of ResNets as options."""

from collections.abc import Sequence
from typing import Any

import timm
import torch
from torch import nn

STRIDES = (4, 8, 16, 32)


def backbone(name: str) -> Any:
    """The `timm` network `name` without its classifier, with random weights.

    It maps images (B, 3, H, W) to four maps (B, C, H_i, W_i) at strides 4, 8, 16 and 32, finest first; ResNets round
    their sizes up, others down. The channels are `.feature_info.channels()`. Raises ValueError where the network has
    no such maps, and RuntimeError where timm has no network of that name.
    """
    with torch.device("meta"):
        whole: Any = timm.create_model(name, features_only=True, pretrained=False)
    reductions = whole.feature_info.reduction()
    wanted = tuple(index for index, reduction in enumerate(reductions) if reduction in STRIDES)
    if len(wanted) != len(STRIDES):
        raise ValueError(f"{name} gives maps at strides {reductions}, not at {list(STRIDES)}")
    if getattr(whole, "output_fmt", "NCHW") != "NCHW":  # transformers with windows, which take images of one size only
        raise ValueError(f"{name} gives maps with channels last")
    return timm.create_model(name, features_only=True, pretrained=False, out_indices=wanted)


def resnet_backbone(
    name: str,
    strides: Sequence[int] = (1, 2, 2, 2),
    dilations: Sequence[int] = (1, 1, 1, 1),
    stride_in: str = "conv2",
) -> Any:
    """A ResNet with the stride and dilation of each of its four stages set.

    As in OpenMMLab, a stage's first block takes half of the stage's dilation ("contract dilation"); stride 32 with
    dilations (1, 1, 2, 4) is FastFCN's backbone there, strides (1, 2, 1, 1) with the same its dilated original.
    `stride_in="conv1"` puts a stage's stride into the first 1x1 of its first bottleneck ("caffe" style weights).
    Raises ValueError where the strides of the network cannot be set, and as `backbone` does.
    """
    net = backbone(name)
    if not hasattr(net, "layer4"):
        raise ValueError(f"{name} is not a ResNet")
    for index, (stride, dilation) in enumerate(zip(strides, dilations, strict=True), start=1):
        stage = getattr(net, f"layer{index}")
        if not _can_stride(stage[0], stride):
            raise ValueError(f"{name} cannot have stride {stride} in layer{index}")
        _set_stride(stage[0], stride, stride_in)
        for position, block in enumerate(stage):
            _set_dilation(block, dilation // 2 if position == 0 and dilation > 1 else dilation, dilation)
    return net


def _can_stride(block: Any, stride: int) -> bool:
    """Whether `stride` can be set in convolutions alone; blurs, pooling shortcuts and missing ones stand against it."""
    if not isinstance(getattr(block, "aa", None), nn.Identity | None) or not isinstance(block.conv2, nn.Conv2d):
        return False
    shortcut = block.downsample[0] if block.downsample else None
    return isinstance(shortcut, nn.Conv2d) or stride == getattr(shortcut, "stride", 1)


def _set_stride(block: Any, stride: int, stride_in: str) -> None:
    bottleneck = hasattr(block, "conv3")
    for name in ("conv1", "conv2") if bottleneck else ("conv1",):
        getattr(block, name).stride = (1, 1)
    getattr(block, stride_in if bottleneck else "conv1").stride = (stride, stride)
    if block.downsample is not None:
        block.downsample[0].stride = (stride, stride)


def _set_dilation(block: Any, first: int, dilation: int) -> None:
    """The block's first 3x3 convolution gets `first`, a second one `dilation`."""
    convolutions = [block.conv2] if hasattr(block, "conv3") else [block.conv1, block.conv2]
    for convolution, amount in zip(convolutions, (first, dilation), strict=False):
        convolution.dilation = convolution.padding = (amount, amount)
