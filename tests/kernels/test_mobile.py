"""Blocks of mobile networks and stems with TensorFlow's padding against plain torch in float64, for random shapes."""

import copy
from math import inf

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastfcn.fast.cpu_mobile import FastInvertedResidual
from fastfcn.kernels import packing
from fastfcn.models.backbone import SamePaddedConv2d
from tests.helpers import needed
from tests.helpers.drawn_tensors import Draw
from tests.kernels.reference import TOLERANCE, threads

pytestmark = needed.KERNELS


def conv(draw: Draw, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, same: bool = False, groups: int = 1):
    """A convolution whose results have about unit variance."""
    kind, padding = (SamePaddedConv2d, 0) if same else (nn.Conv2d, kernel // 2)
    layer = kind(inputs, outputs, kernel, stride, padding, groups=groups).requires_grad_(False)
    layer.weight.copy_(draw.tensor(*layer.weight.shape) / layer.weight[0].numel() ** 0.5)
    layer.bias.copy_(draw.tensor(outputs))
    return layer


def drawn_block(
    draw: Draw, inputs: int, middle: int, outputs: int, kernel: int, stride: int, same: bool, expands: bool = True
) -> tuple[nn.Conv2d | None, nn.Conv2d, nn.Conv2d]:
    expand = conv(draw, inputs, middle) if expands else None
    middle = middle if expands else inputs
    return expand, conv(draw, middle, middle, kernel, stride, same, groups=middle), conv(draw, middle, outputs)


def reference(features: Tensor, block: tuple, limit: float, residual: bool) -> Tensor:
    expand, depthwise, project = (copy.deepcopy(layer).double() if layer else None for layer in block)
    middle = features.double()
    if expand is not None:
        middle = expand(middle).relu().clamp(max=limit)
    result = project(depthwise(middle).relu().clamp(max=limit))
    return (result + features.double() if residual else result).float()


def check(features: Tensor, block: tuple, limit: float, residual: bool = False) -> Tensor:
    fast = FastInvertedResidual(*block, limit, residual)
    actual = fast(features)
    torch.testing.assert_close(actual, reference(features, block, limit, residual), **TOLERANCE)
    assert actual.is_contiguous(memory_format=torch.channels_last)
    return actual


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("same", [False, True])
def test_blocks(kernel: int, stride: int, same: bool):
    """Sizes down to one pixel, channels that fill no vector, every count of columns that is computed at once."""
    draw = Draw(kernel + 10 * stride + 100 * same)
    for count in (1, 2, 5):
        for size in ((1, 1), (2, 3), (1, 17), (13, 8), (draw.number(3, 40), draw.number(3, 61))):
            inputs, outputs = draw.number(1, 50), draw.number(1, 70)
            block = drawn_block(draw, inputs, draw.number(1, 100), outputs, kernel, stride, same)
            with threads(count):
                check(draw.features(draw.number(1, 3), inputs, *size), block, limit=[1.0, 6.0, inf][count % 3])


@pytest.mark.parametrize("channels", [7, 16, 24, 40, 65])
@pytest.mark.parametrize("expands", [True, False])
def test_residuals(channels: int, expands: bool):
    draw = Draw(channels)
    for size in ((1, 2), (23, 15), (9, 40)):
        block = drawn_block(draw, channels, 3 * channels, channels, 3, 1, True, expands)
        for count in (1, 2):
            with threads(count):
                check(draw.features(2, channels, *size), block, 6.0, residual=True)


@pytest.mark.parametrize("stride", [1, 2])
def test_separable_blocks(stride: int):
    draw = Draw(stride)
    for inputs, outputs, size in ((32, 16, (30, 41)), (5, 19, (7, 7)), (48, 33, (1, 90))):
        check(draw.features(2, inputs, *size), drawn_block(draw, inputs, 0, outputs, 3, stride, False, False), inf)


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "size"),
    [
        ((24, 144, 40), 5, 2, (90, 121)),  # few rows are shared by two threads: in a ring buffer
        ((16, 96, 24), 3, 2, (40, 1100)),  # wider than the ring buffer: several parts of a row
        ((112, 672, 192), 5, 1, (11, 15)),  # many rows are shared, the weights do not fit into L2: stored
        ((192, 1152, 320), 3, 1, (12, 15)),
    ],
)
def test_ways_to_compute_a_block(channels: tuple[int, int, int], kernel: int, stride: int, size: tuple[int, int]):
    """Each is bit-identical for any number of threads: with many threads, all store the map in between."""
    draw = Draw(kernel)
    features = draw.features(1, channels[0], *size)
    block = drawn_block(draw, *channels, kernel, stride, True)
    expected = check(features, block, 6.0)
    fast = FastInvertedResidual(*block, 6.0, False)
    for count in (2, 3, 5, 16):
        with threads(count):
            assert torch.equal(fast(features), expected)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("limit", [None, 0.5])
def test_stems_with_same_padding_and_a_limit(kernel: int, limit: float | None):
    draw = Draw(kernel)
    for size in ((1, 1), (2, 7), (33, 64), (58, 31)):
        images, layer = draw.features(2, 3, *size), conv(draw, 3, 2 * packing.lanes(), kernel, 2, same=True)
        actual = torch.ops.fastfcn.stem(images, packing.pack_stem(layer.weight), layer.bias, kernel, False, True, limit)
        expected = F.relu(layer.double()(images.double())).clamp(max=limit or inf).float()
        torch.testing.assert_close(actual, expected, **TOLERANCE)


def test_a_batch_of_no_images():
    block = drawn_block(Draw(0), 8, 16, 24, 3, 2, True)
    assert FastInvertedResidual(*block, 6.0, False)(torch.empty(0, 8, 5, 6)).shape == (0, 24, 3, 3)
