"""Backbones: any timm network with maps at strides 4, 8, 16 and 32; ResNets with custom strides and dilations."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from textwrap import shorten
from typing import Any, Literal, NamedTuple

import timm
import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.drop import DropPath
from timm.models import group_parameters
from torch import Tensor, nn

from fastfcn.utils.modules import add_base_class, change_class
from fastfcn.utils.spelling import did_you_mean

STRIDES = (4, 8, 16, 32)
USE_ANOTHER = (
    "Use a network with four stages that takes images of any size, such as convnext_tiny, efficientnet_b0, "
    "swin_tiny_patch4_window7_224 or mobilenetv4_conv_small; docs/backbones.md lists more."
)
LIST = "List timm's networks: python -c \"import timm; print(timm.list_models('resnet*'))\""
AS_PYRAMID = "Use a plain ResNet such as resnet50, or backbone.kind=pyramid, which has no strides and dilations to set."
NO_DROP_PATH = 'Write drop_path={kind="none"}'
# Sizes that no stride divides. Maps of the first, rounded up: 9x16, 5x8, 3x4, 2x2; the second is the smallest.
UNEVEN = ((33, 63), (1, 1))


class BackboneError(ValueError):
    """A network cannot be used as a backbone; `hint` says what can."""

    def __init__(self, message: str, hint: str = USE_ANOTHER):
        super().__init__(message)
        self.hint = hint


def backbone(name: str, drop_path: float = 0.0, channels: int = 3) -> Any:
    """The `timm` network `name` without its classifier, with random weights.

    It maps images (B, `channels`, H, W) of any size to four maps (B, C, ceil(H / stride), ceil(W / stride)) at strides
    4, 8, 16 and 32, finest first. If the network would round down or refuse the size, images are padded with zeros
    (the mean of normalized images) on the right and at the bottom to a multiple of 32 or, for windows that must divide
    the maps, of the size that it was made for; the maps are cropped. The channels of the maps are
    `.feature_info.channels()`; weights have timm's names. `drop_path`: probability with which training skips the last
    block; it falls linearly to 0 at the first (stochastic depth). Raises BackboneError if timm does not know the name,
    or if the network has no such maps, does not accept images of any size or cannot skip blocks.
    """
    traits = _traits(name)
    options: dict[str, Any] = {"strict_img_size": False} if traits.strict else {}
    if drop_path:
        options["drop_path_rate"] = drop_path
    if channels != 3:
        options["in_chans"] = channels
    try:
        net = timm.create_model(name, features_only=True, pretrained=False, out_indices=traits.indices, **options)
    except TypeError as error:  # an unknown option
        raise BackboneError(f"{name} has no drop path", NO_DROP_PATH) from error
    if drop_path and not any(isinstance(module, DropPath) for module in net.modules()):
        raise BackboneError(f"{name} has no drop path", NO_DROP_PATH)
    for module in net.modules():
        if type(module) is Conv2dSame:
            change_class(module, SamePaddedConv2d)
    if traits.multiple > 1:
        add_base_class(net, _AnySize, channels_last=traits.channels_last, multiple=traits.multiple)
    return net


class SamePaddedConv2d(nn.Conv2d):
    """timm's `Conv2dSame` (TensorFlow's padding "same") in a form that can be exported for any size.

    The padding is as small as possible for ceil(size / stride) results; if it is odd, the larger half is at the bottom
    and right. A 3x3 convolution of stride 2 pads an even side by (0, 1) and an odd side by (1, 1).
    """

    def forward(self, input: Tensor) -> Tensor:
        (top, bottom), (left, right) = self.paddings(input.shape[-2:])
        return self._conv_forward(F.pad(input, (left, right, top, bottom)), self.weight, self.bias)

    def paddings(self, size: Sequence[int]) -> list[tuple[int, int]]:
        """Padding (before, after) of both axes for maps of `size` (height, width), which may be symbolic."""
        axes = zip(size, self.kernel_size, self.stride, self.dilation, strict=True)
        return [same_padding(side, kernel, stride, dilation) for side, kernel, stride, dilation in axes]


def same_padding(side: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Padding (before, after) of one axis of length `side`, as TensorFlow's "same" does."""
    reach = (kernel - 1) * dilation
    total = reach - (side - 1) % stride
    if reach < stride - 1:  # only then it may be negative
        total = torch.sym_max(total, 0)  # type: ignore[assignment]
    return total // 2, total - total // 2  # type: ignore[return-value]


class _AnySize(nn.Module):
    """Mixin for a timm network's class: accepts images of any size, returns maps rounded up, channels first."""

    channels_last: bool
    multiple: int

    def forward(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[-2:]
        # As products, so that in a traced program the strides divide the sizes of all maps.
        rows, columns = ((side + self.multiple - 1) // self.multiple * self.multiple for side in (height, width))
        maps = super().forward(F.pad(images, (0, columns - width, 0, rows - height)))
        if self.channels_last:
            maps = [map_.permute(0, 3, 1, 2) for map_ in maps]
        sizes = _rounded_up((height, width))
        return [map_[..., :rows, :columns] for map_, (rows, columns) in zip(maps, sizes, strict=True)]


class _Traits(NamedTuple):
    """Properties of a timm network, found before it is created.

    `indices`: its maps at strides 4 to 32; `strict`: needs `strict_img_size=False` to accept any size;
    `channels_last`: layout of its maps; `multiple`: divides all heights and widths that it accepts; 1 if it accepts all
    and rounds up.
    """

    indices: tuple[int, ...]
    strict: bool
    channels_last: bool
    multiple: int


@cache
def _traits(name: str) -> _Traits:
    """Determined on the meta device, without computing; raises as `backbone` does."""
    with torch.device("meta"):
        network = _pyramid(name)
        reductions = network.feature_info.reduction()
        if not set(STRIDES) <= set(reductions):
            raise BackboneError(f"{name} has maps at strides {reductions}, not at {list(STRIDES)}")
        # Networks with windows, such as Swin.
        strict = getattr(getattr(network, "patch_embed", None), "strict_img_size", False)
        if strict:
            network = _pyramid(name, strict_img_size=False)
    indices = tuple(len(reductions) - 1 - reductions[::-1].index(stride) for stride in STRIDES)
    traits = _Traits(indices, strict, getattr(network, "output_fmt", "NCHW") == "NHWC", multiple=1)
    if not traits.channels_last and all(_map_sizes(network, size, traits) == _rounded_up(size) for size in UNEVEN):
        return traits
    trained = timm.get_pretrained_cfg(name)
    side = trained.input_size[-1] if trained else STRIDES[-1]
    problem = ""
    for multiple in (STRIDES[-1], side):
        size = (2 * multiple, 3 * multiple)
        if (sizes := _map_sizes(network, size, traits)) == _rounded_up(size):
            return traits._replace(multiple=multiple)
        problem = problem or f"at {size[0]}x{size[1]} {sizes if isinstance(sizes, str) else f'maps have sizes {sizes}'}"
    raise BackboneError(f"{name} does not accept images of any size; it was made for {side}x{side} ({problem})")


def _pyramid(name: str, **options: Any) -> Any:
    """timm's network `name` with all of its maps, in evaluation mode."""
    try:
        return timm.create_model(name, features_only=True, pretrained=False, **options).eval()
    except Exception as error:  # timm raises various exceptions for networks without maps
        if "Unknown model" in str(error):
            known = did_you_mean(name, timm.list_models()) or "."
            raise BackboneError(f"timm {timm.__version__} has no network of this name{known}", LIST) from error
        reason = shorten(str(error) or type(error).__name__, 200)
        raise BackboneError(f"{name} has no feature maps in timm: {reason}") from error


def _map_sizes(network: Any, size: tuple[int, int], traits: _Traits) -> list[tuple[int, ...]] | str:
    """(height, width) of the maps of a network on the meta device for an image of `size`; why it fails, if it does."""
    try:
        with torch.no_grad():
            maps = network(torch.empty(1, 3, *size, device="meta"))
    except Exception as error:  # timm raises various exceptions for unsupported sizes
        return shorten(str(error) or type(error).__name__, 200)
    return [tuple(maps[i].shape[1:3] if traits.channels_last else maps[i].shape[2:4]) for i in traits.indices]


def image_channels(net: nn.Module) -> int:
    """The channels of the images that a network reads: those of its first convolution."""
    return next(module.in_channels for module in net.modules() if isinstance(module, nn.Conv2d))


def layer_distances(name: str, net: nn.Module) -> dict[str, int]:
    """For each parameter of `net`, a backbone of the timm network `name`: layers to its end, 1 for those of the last.

    The layers are those that timm uses for layer-wise learning rates: the stem and the blocks. Raises ValueError if
    timm does not divide the network.
    """
    full = _whole_network(name)
    if not hasattr(full, "group_matcher"):
        raise ValueError(f"timm does not divide {name} into layers")
    numbers = group_parameters(full, full.group_matcher(coarse=False), reverse=True)
    named = _names_in_backbone(numbers, net)
    end = max(named.values()) + 1
    return {key: end - number for key, number in named.items()}


def without_decay(name: str, net: nn.Module) -> set[str]:
    """Parameters of `net`, a backbone of the timm network `name`, that its authors exempt from weight decay.

    Norms and biases are not among them; Swin's tables of relative positions are.
    """
    full = _whole_network(name)
    exempt = full.no_weight_decay() if hasattr(full, "no_weight_decay") else ()
    return set(_names_in_backbone(dict.fromkeys(exempt), net))


def _whole_network(name: str) -> Any:
    with torch.device("meta"):
        return timm.create_model(name, pretrained=False)


def _names_in_backbone(values: Mapping[str, Any], net: nn.Module) -> dict[str, Any]:
    """`values` by parameter of a complete timm network, by the names that the parameters have in its backbone `net`."""
    # stages.0 in timm's networks is stages_0 in its feature pyramids, and model.stages.0 in others.
    aliases = {alias: key for key in values for alias in (key.replace(".", "_", 1), f"model.{key}", key)}
    return {key: values[aliases[key]] for key, _ in net.named_parameters() if key in aliases}


def pretrained_normalization(name: str) -> tuple[list[float], list[float]] | None:
    """Mean and standard deviation (RGB, of 255) that timm's weights of the network `name` expect; None if unknown."""
    trained = timm.get_pretrained_cfg(name)
    if not trained or not trained.mean or not trained.std:
        return None
    mean, std = ([round(255 * value, 3) for value in values] for values in (trained.mean, trained.std))
    return mean, std


def stage_parameters(create: Callable[[], Any], stages: int, channels: int = 3) -> set[str]:
    """Names of the parameters that the first `stages` maps (1-4) of a backbone depend on: its stem and these stages."""
    with torch.device("meta"):
        net = create().eval()
        named = dict(net.named_parameters())
        total = torch.stack([map_.sum() for map_ in net(torch.empty(1, channels, 64, 64))[:stages]]).sum()
        gradients = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    return {name for name, gradient in zip(named, gradients, strict=True) if gradient is not None}


def _rounded_up(size: tuple[int, int]) -> list[tuple[int, ...]]:
    return [tuple(math.ceil(side / stride) for side in size) for stride in STRIDES]


def resnet_backbone(
    name: str,
    strides: Sequence[int] = (1, 2, 2, 2),
    dilations: Sequence[int] = (1, 1, 1, 1),
    style: Literal["pytorch", "caffe"] = "pytorch",
    drop_path: float = 0.0,
    channels: int = 3,
) -> Any:
    """A ResNet with the stride and dilation of each of its four stages set.

    As in mmsegmentation, the first block of a stage has half of the stage's dilation (`contract_dilation`). Stride 32
    with dilations (1, 1, 2, 4) is its FastFCN backbone; strides (1, 2, 1, 1) with these is the dilated baseline.
    The first bottleneck of a stage has its stride in the 3x3 convolution (`style` "pytorch") or in the first 1x1
    ("caffe"). `drop_path`, `channels`: as for `backbone`.
    Raises BackboneError if the strides of the network cannot be set, and as `backbone` does.
    """
    net = backbone(name, drop_path, channels)
    if not hasattr(net, "layer4") or isinstance(net, _AnySize):
        raise BackboneError(f"{name} is not a ResNet", AS_PYRAMID)
    for index, (stride, dilation) in enumerate(zip(strides, dilations, strict=True), start=1):
        stage = getattr(net, f"layer{index}")
        if not _can_stride(stage[0], stride):
            raise BackboneError(f"{name} cannot have stride {stride} in layer{index}", AS_PYRAMID)
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
