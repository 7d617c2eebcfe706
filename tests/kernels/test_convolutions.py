"""1x1 and 3x3 convolutions, alone and as a ResNet stage, against plain torch in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn.kernels import packing
from tests.helpers import needed
from tests.helpers.drawn_tensors import Draw
from tests.kernels.reference import TOLERANCE, reference_convolution, threads, to_channel_blocks

pytestmark = needed.KERNELS


@pytest.mark.parametrize("seed", range(24))
def test_pointwise(seed: int):
    draw = Draw(seed)
    inputs, outputs = draw.number(1, 70), [1, 19, 150, 64, 33, 32][seed % 6]
    stride, relu = 1 + seed % 3, bool(seed % 2)
    features = draw.features(draw.number(1, 3), inputs, draw.number(1, 21), draw.number(1, 33))
    weight, bias = draw.tensor(outputs, inputs, 1, 1) / inputs**0.5, draw.tensor(outputs)
    expected = reference_convolution(features, weight, bias, None, relu, stride=stride)
    settings = (features, packing.pack_pointwise(weight), bias, relu, stride)
    torch.testing.assert_close(torch.ops.fastfcn.pointwise(*settings), expected, **TOLERANCE)
    residual = draw.features(*expected.shape)
    expected = reference_convolution(features, weight, bias, residual, relu, stride=stride)
    torch.ops.fastfcn.pointwise_add_(residual, *settings)
    torch.testing.assert_close(residual, expected, **TOLERANCE)


@pytest.mark.parametrize("seed", range(12))
def test_pointwise_pair(seed: int):
    draw = Draw(seed)
    inputs, others, outputs, stride = draw.number(1, 70), draw.number(1, 70), [19, 64, 150][seed % 3], 1 + seed % 2
    shortcut = draw.features(draw.number(1, 3), others, draw.number(1, 21), draw.number(1, 33))
    weight, other = draw.tensor(outputs, inputs, 1, 1) / inputs**0.5, draw.tensor(outputs, others, 1, 1) / others**0.5
    bias = draw.tensor(outputs)
    residual = reference_convolution(shortcut, other, torch.zeros(outputs), None, False, stride=stride)
    features = draw.features(shortcut.shape[0], inputs, *residual.shape[-2:])
    actual = torch.ops.fastfcn.pointwise_pair(
        features, packing.pack_pointwise(weight), bias, True, shortcut, packing.pack_pointwise(other), stride
    )
    torch.testing.assert_close(actual, reference_convolution(features, weight, bias, residual, True), **TOLERANCE)


def test_pointwise_of_many_channels_and_pixels():
    """k is longer than one part, rows map to the same cache sets, and there are more pixels than a block holds."""
    draw = Draw(0)
    features, weight, bias = draw.features(2, 2048, 11, 13), draw.tensor(96, 2048, 1, 1) / 45, draw.tensor(96)
    settings = (features, packing.pack_pointwise(weight), bias, False, 1)
    expected = reference_convolution(features, weight, bias, None, False)
    torch.testing.assert_close(torch.ops.fastfcn.pointwise(*settings), expected, **TOLERANCE)
    residual = torch.ones_like(expected)
    torch.ops.fastfcn.pointwise_add_(residual, *settings)
    torch.testing.assert_close(residual, expected + 1, **TOLERANCE)


@pytest.mark.parametrize("longest", [3, 4, 5, 6])
@pytest.mark.parametrize("seed", range(8))
def test_winograd(longest: int, seed: int):
    draw = Draw(seed)
    inputs, outputs = 16 * draw.number(1, 4), 16 * draw.number(1, 4)
    stride, dilation = [(1, 1), (1, 2), (1, 4), (1, 12), (1, 36), (2, 1), (1, 3), (2, 1)][seed]
    features = draw.features(draw.number(1, 3), inputs, draw.number(1, 23), draw.number(1, 31))
    weight, bias = draw.tensor(outputs, inputs, 3, 3) / (3 * inputs**0.5), draw.tensor(outputs)
    check_winograd(draw, features, weight, bias, bool(seed % 2), (stride, dilation, longest))


def check_winograd(
    draw: Draw, features: Tensor, weight: Tensor, bias: Tensor, relu: bool, window: tuple[int, int, int]
) -> None:
    """Alone, with a channel-blocked result, and added to a residual. `window`: stride, dilation and max_tile."""
    stride, dilation, _ = window
    options = {"padding": dilation, "dilation": dilation, "stride": stride}
    settings = (features, torch.ops.fastfcn.pack_taps(weight, False), bias, relu, *window)
    expected = reference_convolution(features, weight, bias, None, relu, **options)
    actual = torch.ops.fastfcn.winograd(*settings)
    torch.testing.assert_close(actual, expected, **TOLERANCE)
    assert torch.equal(torch.ops.fastfcn.winograd(*settings, True), to_channel_blocks(actual))
    residual = draw.features(*expected.shape)
    expected = reference_convolution(features, weight, bias, residual, relu, **options)
    torch.ops.fastfcn.winograd_add_(residual, *settings)
    torch.testing.assert_close(residual, expected, **TOLERANCE)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 2), (3, 1), (5, 2), (7, 11), (13, 4), (6, 12), (16, 9)])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (1, 3), (2, 1), (2, 2), (2, 4)])
def test_winograd_of_every_length_of_tile(size: tuple[int, int], stride: int, dilation: int):
    """Maps of one and two pixels, and larger ones whose tiles have unequal lengths."""
    draw = Draw(sum(size))
    features, weight = draw.features(2, 16, *(side * dilation for side in size)), draw.tensor(32, 16, 3, 3) / 12
    for longest in (3, 4, 5, 6):
        check_winograd(draw, features, weight, torch.zeros(32), False, (stride, dilation, longest))


@pytest.mark.parametrize(
    ("inputs", "outputs", "stride", "dilation"), [(32, 48, 1, 1), (128, 96, 1, 3), (16, 16, 1, 1), (64, 48, 2, 1)]
)
def test_winograd_of_few_channels_and_many_tiles(inputs: int, outputs: int, stride: int, dilation: int):
    """Each thread takes batches of tiles from inputs to results; the last batch is not full."""
    draw = Draw(inputs)
    features, weight = draw.features(2, inputs, 97, 131), draw.tensor(outputs, inputs, 3, 3) / (3 * inputs**0.5)
    with threads(2):  # that share the tiles
        check_winograd(draw, features, weight, draw.tensor(outputs), True, (stride, dilation, 6))


def test_winograd_in_several_parts():
    """More tiles than the workspace holds, and more channels than are processed at once."""
    draw = Draw(1)
    features, weight, bias = draw.features(3, 1024, 52, 64), draw.tensor(16, 1024, 3, 3) / 96, draw.tensor(16)
    actual = torch.ops.fastfcn.winograd(features, torch.ops.fastfcn.pack_taps(weight, False), bias, False, 1, 1, 6)
    torch.testing.assert_close(actual, F.conv2d(features, weight, bias, padding=1), **TOLERANCE)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("size", [(70, 62), (9, 13)])
def test_winograd_of_stride_2_in_several_parts(size: tuple[int, int], count: int):
    """More channels than are processed at once; with many tiles some weight rows at a time, with few tiles all."""
    draw = Draw(3)
    features, weight = draw.features(1, 512, *size), draw.tensor(96, 512, 3, 3) / 68
    with threads(count):
        check_winograd(draw, features, weight, draw.tensor(96), True, (2, 1, 6))


@pytest.mark.parametrize("outputs", [16, 240, 272])
def test_winograd_in_threads(outputs: int):
    """Threads divide tiles (unequally) if there are few outputs, else panels of outputs."""
    draw = Draw(4)
    features, weight = draw.features(1, 128, 51, 87), draw.tensor(outputs, 128, 3, 3) / 34
    with threads(2):
        check_winograd(draw, features, weight, torch.zeros(outputs), False, (1, 1, 6))


def test_winograd_of_a_map_that_no_cache_holds():
    """Results are written with non-temporal stores; an odd size, so that tiles extend beyond the map."""
    draw = Draw(2)
    features, weight, bias = draw.features(2, 16, 365, 371), draw.tensor(32, 16, 3, 3) / 12, draw.tensor(32)
    taps, expected = torch.ops.fastfcn.pack_taps(weight, False), F.conv2d(features, weight, bias, padding=1).relu()
    assert expected[0].numel() > 4 << 20
    actual = torch.ops.fastfcn.winograd(features, taps, bias, True, 1, 1, 6)
    torch.testing.assert_close(actual, expected, **TOLERANCE)


@pytest.mark.parametrize("seed", range(8))
def test_bottlenecks(seed: int):
    draw = Draw(seed)
    inputs, width, narrow, stride = draw.number(1, 70), draw.number(1, 70), 16 * draw.number(1, 4), 1 + seed % 2
    dilations = [draw.number(1, 4) for _ in range(draw.number(1, 4))]
    if stride == 2:
        dilations[0] = [1, 2, 4][seed // 2 % 3]
    features = draw.features(draw.number(1, 3), inputs, draw.number(1, 21), draw.number(1, 33))
    expected, weights, biases = features, [], []
    for block, dilation in enumerate(dilations):
        sizes = [(narrow, width if block else inputs, 1, 1), (narrow, narrow, 3, 3), (width, narrow, 1, 1)]
        reduce, middle, last = (draw.tensor(*size) / (size[1] * size[2] ** 2) ** 0.5 for size in sizes)
        block_biases = [draw.tensor(len(weight)) for weight in (reduce, middle, last)]
        block_stride = 1 if block else stride
        shortcut = expected
        if block == 0:
            shortcut_weight = draw.tensor(width, inputs, 1, 1) / inputs**0.5
            shortcut = reference_convolution(features, shortcut_weight, torch.zeros(width), None, False, stride=stride)
        inner = reference_convolution(expected, reduce, block_biases[0], None, True)
        inner = reference_convolution(
            inner, middle, block_biases[1], None, True, stride=block_stride, dilation=dilation, padding=dilation
        )
        expected = reference_convolution(inner, last, block_biases[2], shortcut, True)
        taps = torch.ops.fastfcn.pack_taps(middle, False)
        weights += [packing.pack_pointwise(reduce), taps, packing.pack_pointwise(last)]
        biases += block_biases
    before = features.clone()
    weights.append(packing.pack_pointwise(shortcut_weight))
    actual = torch.ops.fastfcn.bottleneck_stage(features, weights, biases, stride, dilations, 6)
    torch.testing.assert_close(actual, expected, **TOLERANCE)
    assert torch.equal(features, before), "another part of the network may need them"
