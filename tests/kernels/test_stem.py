"""A ResNet's stem and its max pooling against plain torch, for random shapes."""

import pytest
import torch
import torch.nn.functional as F

from fastfcn.kernels import packing
from tests.helpers import needed
from tests.helpers.drawn_tensors import Draw
from tests.kernels.reference import TOLERANCE, reference_convolution, threads

pytestmark = needed.KERNELS


@pytest.mark.parametrize("seed", range(8))
def test_max_pool(seed: int):
    draw = Draw(seed)
    features = draw.features(draw.number(1, 3), draw.number(1, 70), draw.number(1, 21), draw.number(1, 33))
    assert torch.equal(torch.ops.fastfcn.max_pool(features - 1), F.max_pool2d(features - 1, 3, 2, 1))


def check_winograd_pool(draw: Draw, inputs: int, outputs: int, size: tuple[int, int], longest: int) -> None:
    features = draw.features(draw.number(1, 3), inputs, *size)
    weight, bias = draw.tensor(outputs, inputs, 3, 3) / (3 * inputs**0.5), draw.tensor(outputs)
    actual = torch.ops.fastfcn.winograd_pool(features, torch.ops.fastfcn.pack_taps(weight, False), bias, longest)
    wide = reference_convolution(features, weight, bias, None, True, padding=1)
    torch.testing.assert_close(actual, F.max_pool2d(wide, 3, 2, 1), **TOLERANCE)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("longest", [3, 4, 5, 6])
def test_winograd_pool(longest: int, count: int):
    """Sizes down to one pixel; strips of several tile rows that start inside an image or with one; several parts of a
    row, the last of odd width."""
    draw = Draw(longest + 10 * count)
    with threads(count):
        for size in ((1, 1), (2, 3), (7, 5), (12, 24), (31, 19), (25, 115)):
            check_winograd_pool(draw, 16 * draw.number(1, 4), 16 * draw.number(1, 4), size, longest)


def test_winograd_pool_of_many_channels():
    """More weights than are transformed at once: falls back to `winograd` and `max_pool`."""
    check_winograd_pool(Draw(0), 160, 176, (14, 9), 6)


@pytest.mark.parametrize("seed", range(12))
def test_stem(seed: int):
    """Sizes down to one pixel; a missing ReLU would show at the borders of the pooled map."""
    draw = Draw(seed)
    kernel, outputs = [7, 3, 5, 1][seed % 4], 2 * torch.ops.fastfcn.lanes() * draw.number(1, 3)
    images = draw.features(draw.number(1, 3), 3, draw.number(1, 70), draw.number(1, 110))
    weight, bias = draw.tensor(outputs, 3, kernel, kernel) / kernel, draw.tensor(outputs)
    packed = packing.pack_stem(weight)
    wide = reference_convolution(images, weight, bias, None, True, stride=2, padding=kernel // 2)
    for pool, expected in ((True, F.max_pool2d(wide, 3, 2, 1)), (False, wide)):
        torch.testing.assert_close(torch.ops.fastfcn.stem(images, packed, bias, kernel, pool), expected, **TOLERANCE)


def test_stem_of_a_large_map():
    """Results are written with non-temporal stores."""
    draw = Draw(0)
    images, weight, bias = draw.features(1, 3, 330, 810), draw.tensor(64, 3, 3, 3), draw.tensor(64)
    packed = packing.pack_stem(weight)
    wide = reference_convolution(images, weight, bias, None, True, stride=2, padding=1)
    assert wide.numel() > 4 << 20
    torch.testing.assert_close(torch.ops.fastfcn.stem(images, packed, bias, 3, False), wide, **TOLERANCE)
