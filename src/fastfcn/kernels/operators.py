"""Declarations of the operators in `torch.ops.fastfcn`: signature, meaning, and the shape of the result.

Each function below has the operator's name and parameters. Its type hints give the operator's schema, and its body
computes nothing but the shape of the result (the "fake" or "meta" kernel of torch.compile and torch.export). The CPU
kernel is the C++ function of the same name in `csrc`.

All maps are float32. "Map (B, C, H, W)" means any memory format on input and channels last on output; weights are
packed by `fastfcn.kernels.packing`, or by `pack_taps` for 3x3 convolutions.
"""

from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from fastfcn.kernels.packing import CHANNEL_BLOCK, lanes

P = ParamSpec("P")
R = TypeVar("R")


def operator(*, mutates: Sequence[str] = (), autocast: bool = True) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Define an operator by its shape function; the decorated name becomes the operator itself.

    `mutates`: names of the parameters that are written to. `autocast`: whether the operator casts its inputs to
    float32 under autocast, as its weights are; without, other dtypes raise a RuntimeError.
    """

    def define(shapes: Callable[P, R]) -> Callable[P, R]:
        name = f"fastfcn::{shapes.__name__}"
        torch.library.define(name, torch.library.infer_schema(shapes, mutates_args=mutates))
        torch.library.register_fake(name, shapes)
        if autocast:
            torch.library.register_autocast(name, "cpu", torch.float32)
        return cast(Callable[P, R], getattr(torch.ops.fastfcn, shapes.__name__))

    return define


def _map(like: Tensor, channels: int, height: int, width: int) -> Tensor:
    shape = (like.shape[0], channels, height, width)
    return like.new_empty(shape).contiguous(memory_format=torch.channels_last)


def _strided(features: Tensor, channels: int, stride: int) -> Tensor:
    height, width = ((side - 1) // stride + 1 for side in features.shape[-2:])
    return _map(features, channels, height, width)


# Convolutions. A bias (O) is always added; `relu` applies ReLU to the sum.


@operator()
def pointwise(features: Tensor, packed: Tensor, bias: Tensor, relu: bool, stride: int) -> Tensor:
    """Compute a 1x1 convolution of a map (B, I, H, W); `packed`: `pack_pointwise` of (O, I, 1, 1)."""
    return _strided(features, bias.shape[0], stride)


@operator(mutates=["residual"])
def pointwise_add_(residual: Tensor, features: Tensor, packed: Tensor, bias: Tensor, relu: bool, stride: int) -> None:
    """Overwrite `residual` with its sum with a 1x1 convolution (after which comes ReLU)."""


@operator()
def pointwise_pair(
    features: Tensor, packed: Tensor, bias: Tensor, relu: bool, shortcut: Tensor, shortcut_packed: Tensor, stride: int
) -> Tensor:
    """Add two 1x1 convolutions: of `features` at stride 1 and of `shortcut` at `stride`."""
    return _map(features, bias.shape[0], *features.shape[-2:])


@operator(autocast=False)
def pack_taps(weight: Tensor, transposed: bool) -> Tensor:
    """Pack the weight (O, I, 3, 3) of a 3x3 convolution for `winograd`: (panels of O, I, 9, panel).

    `transposed` packs the convolution that maps the gradient of its results to that of its input: (panels of I, O, 9,
    panel).
    """
    outputs, inputs = weight.shape[:2][:: -1 if transposed else 1]
    panel = 2 * lanes()
    return weight.new_empty((-(-outputs // panel), inputs, 9, panel))


@operator()
def winograd(
    features: Tensor, taps: Tensor, bias: Tensor, relu: bool, stride: int, dilation: int, max_tile: int,
    channel_blocked: bool = False,
) -> Tensor:  # fmt: skip
    """Compute a 3x3 convolution, padded by its dilation, with Winograd's algorithm.

    Stride 1 with any dilation, or stride 2 with dilation 1 or an even one. Channels must be multiples of `lanes()`.
    `max_tile`: most results of a tile along an axis, 3 to 6; larger tiles need fewer products and round more.
    `channel_blocked` returns (B, O / 16, H, W, 16) instead of a map.
    """
    result = _strided(features, bias.shape[0], stride)
    if not channel_blocked:
        return result
    batch, channels, height, width = result.shape
    return features.new_empty((batch, channels // CHANNEL_BLOCK, height, width, CHANNEL_BLOCK))


@operator(mutates=["residual"])
def winograd_add_(
    residual: Tensor, features: Tensor, taps: Tensor, bias: Tensor, relu: bool, stride: int, dilation: int,
    max_tile: int,
) -> None:  # fmt: skip
    """Overwrite `residual` with its sum with a 3x3 convolution (after which comes ReLU)."""


@operator()
def bottleneck_stage(
    features: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], stride: int, dilations: Sequence[int],
    max_tile: int,
) -> Tensor:  # fmt: skip
    """Compute a ResNet stage of bottleneck blocks, one for each dilation; only the first has a shortcut convolution.

    `weights`: packed, three of each block and then the shortcut's; `biases`: three of each block, the shortcut's bias
    added to that of the first block's last convolution.
    """
    return _strided(features, biases[-1].shape[0], stride)


@operator()
def inverted_residual(
    features: Tensor, expand: Tensor | None, expand_bias: Tensor | None, taps: Tensor, taps_bias: Tensor,
    project: Tensor, project_bias: Tensor, kernel: int, stride: int, same: bool, limit: float, residual: bool,
) -> Tensor:  # fmt: skip
    """Compute a block of a mobile network: 1x1 convolution to M channels, depthwise, 1x1 convolution to O channels.

    The first two are followed by ReLU and an upper limit, `min(relu(x), limit)` (6 for ReLU6). `expand`:
    `pack_pointwise` of (M, I, 1, 1), M a multiple of `lanes()`, or None; then M is I. `taps`: `pack_depthwise` of
    (M, 1, kernel, kernel), kernel 3, 5 or 7, stride 1 or 2; padding is kernel // 2, or with `same` as TensorFlow's.
    `project`: `pack_pointwise` of (O, M, 1, 1). `residual` adds the input. Without `expand`, `taps` and `taps_bias` are
    padded with zeros to a multiple of `lanes()` channels.
    """
    return _strided(features, project_bias.shape[0], stride)


# Stems.


@operator()
def stem(
    images: Tensor, packed: Tensor, bias: Tensor, kernel: int, pool: bool, same: bool = False,
    limit: float | None = None,
) -> Tensor:  # fmt: skip
    """Compute an odd `kernel` convolution at stride 2 of images (B, 3, H, W), ReLU and, with `pool`, `max_pool`.

    Padding is kernel // 2, or with `same` as TensorFlow's, which depends on the size. `limit`: of the results, 6 for
    ReLU6.
    """
    return _strided(images, bias.shape[0], 4 if pool else 2)


@operator()
def winograd_pool(features: Tensor, taps: Tensor, bias: Tensor, max_tile: int) -> Tensor:
    """Compute a 3x3 convolution (stride 1), ReLU and `max_pool` without storing the map in between."""
    return _strided(features, bias.shape[0], 2)


@operator()
def max_pool(features: Tensor) -> Tensor:
    """Compute `F.max_pool2d(features, 3, stride=2, padding=1)`."""
    return _strided(features, features.shape[1], 2)


# JPU.


@operator()
def jpu(
    maps: Sequence[Tensor], taps: Tensor, packed: Tensor, bias: Tensor, dilations: Sequence[int], align_corners: bool,
    next_packed: Tensor | None = None, next_bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Compute JPU after its first convolutions (arXiv 1903.11816), optionally with a 1x1 convolution.

    `maps`: finest first, channels last or channel-blocked; resized bilinearly to the first and concatenated: C
    channels. For each of D dilations a depthwise 3x3 convolution, then 1x1 to O channels and ReLU: D * O channels.
    `taps`: (D, C / lanes, 9, lanes), `pack_depthwise`; `packed`: (D, panels of O, C, panel); `bias`: (D, O).
    `next_packed`, `next_bias`: a 1x1 convolution with ReLU applied to the result.
    """
    height, width = maps[0].shape[2:4]  # of both layouts
    return _map(maps[0], (bias if next_bias is None else next_bias).numel(), height, width)


# Heads.


@operator()
def encode(features: Tensor, packed: Tensor, scale: Tensor) -> Tensor:
    """Compute the Encoding layer, as `fastfcn.ops.encoding.encode`: map (B, C, H, W) to (B, K, C).

    `packed`: `pack_matrix` of the K codewords, transposed to (C, K); `scale`: (K).
    """
    return features.new_empty((features.shape[0], scale.shape[0], features.shape[1]))


@operator()
def gated_classifier(
    codes: Tensor, scale: Tensor, shift: Tensor, gate: Tensor, gate_bias: Tensor, packed: Tensor
) -> Tensor:
    """Scale the Enc head's classifier by its channel gate, for each image: (B, *packed.shape).

    `codes`: encoded features (B, K, C); `scale`, `shift`: (K), batch norm of the codes; `gate`: (C, C), `gate_bias`:
    (C), the layer before the sigmoid; `packed`: `pack_matrix` of the classifier (C, classes).
    """
    return packed.new_empty((codes.shape[0], *packed.shape))


@operator()
def upsample_labels(logits: Tensor, height: int, width: int, align_corners: bool) -> Tensor:
    """Resize logits (B, C, h, w) bilinearly and take the argmax, as `ops.upsample.upsample_labels`.

    Returns labels (B, height, width), uint8; of equal logits the lowest class. At most 256 classes.
    """
    return logits.new_empty((logits.shape[0], height, width), dtype=torch.uint8)


# Training: without autocast, as the layers that use these check the dtype themselves.


@operator(autocast=False)
def winograd_weight_gradient(features: Tensor, gradients: Tensor, dilation: int, max_tile: int) -> Tensor:
    """Compute the gradient (O, I, 3, 3) of the weight of a 3x3 convolution of stride 1.

    `features`: its input (B, I, H, W); `gradients`: of its results (B, O, H, W); `max_tile`: as in `winograd`.
    """
    shape = (gradients.shape[1], features.shape[1], 3, 3)
    return features.new_empty(shape).contiguous(memory_format=torch.channels_last)


@operator(autocast=False)
def depthwise(features: Tensor, weight: Tensor, shift: Tensor, dilation: int) -> Tensor:
    """Convolve each channel with its 3x3 `weight` (C, 1, 3, 3), padded by `dilation`, and subtract `shift` (C)."""
    return _map(features, *features.shape[1:])


@operator(autocast=False)
def depthwise_weight_gradient(features: Tensor, gradients: Tensor, dilation: int) -> Tensor:
    """Compute the gradient (C, 1, 3, 3) of the weight of `depthwise`."""
    return features.new_empty((features.shape[1], 1, 3, 3))


@operator(autocast=False)
def channel_moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Compute each channel's mean and biased variance over all images and pixels: (C), (C)."""
    return features.new_empty(features.shape[1]), features.new_empty(features.shape[1])
