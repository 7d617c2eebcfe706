"""What the operators of `torch.ops.fastfcn` return, without computing it: for torch.compile and torch.export."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastfcn.kernels.weights import LINE


def _map(like: Tensor, channels: int, height: int, width: int) -> Tensor:
    shape = (like.shape[0], channels, height, width)
    return like.new_empty(shape).contiguous(memory_format=torch.channels_last)


@torch.library.register_fake("fastfcn::pointwise")
def _convolved(features: Tensor, packed: Tensor, bias: Tensor, relu: bool, stride: int) -> Tensor:
    height, width = ((side - 1) // stride + 1 for side in features.shape[-2:])
    return _map(features, bias.shape[0], height, width)


@torch.library.register_fake("fastfcn::winograd")
def _winograd(
    features: Tensor, taps: Tensor, bias: Tensor, relu: bool, stride: int, dilation: int, longest: int,
    lines: bool = False,
) -> Tensor:  # fmt: skip
    convolved = _convolved(features, taps, bias, relu, stride)
    batch, channels, height, width = convolved.shape
    return features.new_empty((batch, channels // LINE, height, width, LINE)) if lines else convolved


@torch.library.register_fake("fastfcn::pointwise_pair")
def _pointwise_pair(features: Tensor, packed: Tensor, bias: Tensor, *others: object) -> Tensor:
    return _map(features, bias.shape[0], *features.shape[-2:])


@torch.library.register_fake("fastfcn::pointwise_onto")
@torch.library.register_fake("fastfcn::winograd_onto")
def _onto(residual: Tensor, *others: object) -> None:
    return None


@torch.library.register_fake("fastfcn::jpu")
def _jpu(
    maps: Sequence[Tensor], taps: Tensor, packed: Tensor, bias: Tensor, dilations: Sequence[int], align_corners: bool,
    next_packed: Tensor | None = None, next_bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    height, width = maps[0].shape[2:4]  # of a map in lines, too
    return _map(maps[0], (bias if next_bias is None else next_bias).numel(), height, width)


@torch.library.register_fake("fastfcn::pack_taps")
def _pack_taps(weight: Tensor, transposed: bool) -> Tensor:
    outputs, inputs = weight.shape[:2][:: -1 if transposed else 1]
    panel = 2 * torch.ops.fastfcn.lanes()
    return weight.new_empty((-(-outputs // panel), inputs, 9, panel))


@torch.library.register_fake("fastfcn::winograd_weight_gradient")
def _winograd_weight_gradient(features: Tensor, gradients: Tensor, dilation: int, longest: int) -> Tensor:
    shape = (gradients.shape[1], features.shape[1], 3, 3)
    return features.new_empty(shape).contiguous(memory_format=torch.channels_last)


@torch.library.register_fake("fastfcn::depthwise")
def _depthwise(features: Tensor, weight: Tensor, shift: Tensor, dilation: int) -> Tensor:
    return _map(features, *features.shape[1:])


@torch.library.register_fake("fastfcn::depthwise_weight_gradient")
def _depthwise_weight_gradient(features: Tensor, gradients: Tensor, dilation: int) -> Tensor:
    return features.new_empty((features.shape[1], 1, 3, 3))


@torch.library.register_fake("fastfcn::channel_moments")
def _channel_moments(features: Tensor) -> tuple[Tensor, Tensor]:
    return features.new_empty(features.shape[1]), features.new_empty(features.shape[1])


@torch.library.register_fake("fastfcn::bottlenecks")
def _bottlenecks(
    features: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], stride: int, *others: object
) -> Tensor:
    height, width = ((side - 1) // stride + 1 for side in features.shape[-2:])
    return _map(features, biases[-1].shape[0], height, width)


@torch.library.register_fake("fastfcn::stem")
def _stem(images: Tensor, packed: Tensor, bias: Tensor, kernel: int, pool: bool) -> Tensor:
    stride = 4 if pool else 2
    height, width = ((side - 1) // stride + 1 for side in images.shape[-2:])
    return _map(images, bias.shape[0], height, width)


@torch.library.register_fake("fastfcn::winograd_pool")
def _winograd_pool(features: Tensor, taps: Tensor, bias: Tensor, longest: int) -> Tensor:
    return _convolved(features, taps, bias, relu=True, stride=2)


@torch.library.register_fake("fastfcn::max_pool")
def _max_pool(features: Tensor) -> Tensor:
    height, width = ((side + 1) // 2 for side in features.shape[-2:])
    return _map(features, features.shape[1], height, width)


@torch.library.register_fake("fastfcn::encode")
def _encode(features: Tensor, packed: Tensor, scale: Tensor) -> Tensor:
    return features.new_empty((features.shape[0], scale.shape[0], features.shape[1]))


@torch.library.register_fake("fastfcn::class_weights")
def _class_weights(
    codes: Tensor, scale: Tensor, shift: Tensor, gate: Tensor, gate_bias: Tensor, packed: Tensor
) -> Tensor:
    return packed.new_empty((codes.shape[0], *packed.shape))


@torch.library.register_fake("fastfcn::labels")
def _labels(logits: Tensor, height: int, width: int, align_corners: bool) -> Tensor:
    return logits.new_empty((logits.shape[0], height, width), dtype=torch.uint8)


# Under autocast the operators compute in float32, as their weights are.
for _name in (
    "pointwise",
    "pointwise_onto",
    "pointwise_pair",
    "winograd",
    "winograd_onto",
    "winograd_pool",
    "bottlenecks",
    "stem",
    "jpu",
    "max_pool",
    "encode",
    "class_weights",
    "labels",
):
    torch.library.register_autocast(f"fastfcn::{_name}", "cpu", torch.float32)
