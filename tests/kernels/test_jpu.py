"""JPU's operator against resizing, concatenating and convolving in plain torch, in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn.kernels import packing
from tests.helpers import needed
from tests.helpers.drawn_tensors import Draw
from tests.kernels.reference import TOLERANCE, reference_convolution, to_channel_blocks

pytestmark = needed.KERNELS


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_jpu(seed: int, align_corners: bool):
    draw = Draw(seed)
    width, outputs, height, length = 16 * draw.number(1, 3), draw.number(1, 70), draw.number(1, 30), draw.number(1, 40)
    dilations = [(1, 2, 4, 8), (1,), (3, 12)][seed % 3]
    sizes = [(max(height >> level, 1), (length + level) // (level + 1)) for level in range(3)]
    maps = [draw.features(1 + seed % 2, width, *size) for size in sizes]
    depthwise = [draw.tensor(3 * width, 1, 3, 3) / 3 for _ in dilations]
    pointwise = [draw.tensor(outputs, 3 * width, 1, 1) / (3 * width) ** 0.5 for _ in dilations]
    bias = draw.tensor(len(dilations), outputs)
    check_jpu(maps, depthwise, pointwise, bias, dilations, align_corners)


def check_jpu(maps, depthwise, pointwise, bias, dilations, align_corners) -> None:
    """JPU alone, of channel-blocked maps, and followed by a 1x1 convolution with ReLU."""
    settings = (
        torch.stack([packing.pack_depthwise(weight) for weight in depthwise]),
        torch.stack([packing.pack_pointwise(weight) for weight in pointwise]), bias, dilations, align_corners,
    )  # fmt: skip
    expected = plain_jpu(maps, depthwise, pointwise, bias, dilations, align_corners)
    actual = torch.ops.fastfcn.jpu(maps, *settings)
    torch.testing.assert_close(actual, expected, **TOLERANCE)
    if maps[0].shape[1] % packing.CHANNEL_BLOCK == 0:
        assert torch.equal(torch.ops.fastfcn.jpu([to_channel_blocks(features) for features in maps], *settings), actual)
        assert torch.equal(torch.ops.fastfcn.jpu([to_channel_blocks(maps[0]), *maps[1:]], *settings), actual)
    draw, inputs = Draw(expected.shape[1]), expected.shape[1]
    outputs = 16 * draw.number(1, 5)
    weight, bias = draw.tensor(outputs, inputs, 1, 1) / inputs**0.5, draw.tensor(outputs)
    actual = torch.ops.fastfcn.jpu(maps, *settings, packing.pack_pointwise(weight), bias)
    torch.testing.assert_close(actual, reference_convolution(expected, weight, bias, None, True), **TOLERANCE)


def plain_jpu(maps, depthwise, pointwise, bias, dilations, align_corners) -> Tensor:
    size = maps[0].shape[-2:]
    resized = [F.interpolate(features, size, mode="bilinear", align_corners=align_corners) for features in maps]
    joined = torch.cat(resized, 1).double()
    branches = []
    for depth, point, shift, dilation in zip(depthwise, pointwise, bias, dilations, strict=True):
        wide = F.conv2d(joined, depth.double(), padding=dilation, dilation=dilation, groups=joined.shape[1])
        branches.append(F.conv2d(wide, point.double(), shift.double()).relu())
    return torch.cat(branches, 1).float()


@pytest.mark.parametrize(
    ("factors", "dilations"), [((2, 4), (1, 2, 4, 8)), ((2, 4), (2, 6)), ((2, 4), (4, 12, 1)), ((3, 6), (3, 6, 9))]
)
@pytest.mark.parametrize("size", [(32, 48), (16, 16), (8, 36), (4, 4)])
def test_jpu_with_integer_scale_factors(size: tuple[int, int], factors: tuple[int, ...], dilations: tuple[int, ...]):
    """If a dilation is a multiple of half a map's factor, all taps cross its pixels at the same few positions."""
    draw = Draw(sum(size))
    width, outputs = 32, 48
    height, length = (side // factors[1] * factors[1] or factors[1] for side in size)
    maps = [draw.features(2, width, height // factor, length // factor) for factor in (1, *factors)]
    depthwise = [draw.tensor(3 * width, 1, 3, 3) / 3 for _ in dilations]
    pointwise = [draw.tensor(outputs, 3 * width, 1, 1) / (3 * width) ** 0.5 for _ in dilations]
    check_jpu(maps, depthwise, pointwise, draw.tensor(len(dilations), outputs), dilations, False)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    ("sizes", "dilations"),
    [
        # also with dilations beyond all edges: each tap crosses pixels at different positions
        (((33, 47), (17, 24), (9, 12)), (1, 3, 12, 40)),
        (((20, 12), (5, 3)), (1, 3, 12, 40)),
        (((7, 150), (1, 2)), (1, 3, 12, 40)),
        (((16, 16), (1, 1)), (1, 3, 12, 40)),
        # a dilation is about a whole number of steps: the taps cross pixels at nearly the same positions
        (((64, 96), (32, 48), (16, 24)), (4, 8, 12, 64)),  # with aligned corners 4 is 0.95 steps of the smallest map
        (((61, 45), (16, 12)), (4, 8, 12, 64)),  # and 1 step here
        (((47, 90), (12, 23)), (4, 8, 12, 64)),
        (((25, 25), (3, 3)), (4, 8, 12, 64)),
        (((90, 7), (1, 1)), (4, 8, 12, 64)),
    ],
)
def test_jpu_of_maps_resized_much(sizes: tuple[tuple[int, int], ...], dilations: tuple[int, ...], align_corners: bool):
    """Such maps are convolved at breakpoints, before they are resized."""
    draw = Draw(len(sizes))
    width, outputs, levels = 32, 48, len(sizes)
    maps = [draw.features(2, width, *size) for size in sizes]
    depthwise = [draw.tensor(levels * width, 1, 3, 3) / 3 for _ in dilations]
    pointwise = [draw.tensor(outputs, levels * width, 1, 1) / (levels * width) ** 0.5 for _ in dilations]
    check_jpu(maps, depthwise, pointwise, draw.tensor(len(dilations), outputs), dilations, align_corners)


def test_jpu_of_maps_that_end_within_a_line_of_the_cache():
    """The last channel block is partly unused if a vector is shorter than a cache line."""
    draw = Draw(0)
    width, dilations = 3 * torch.ops.fastfcn.lanes(), (1, 2)
    maps = [draw.features(2, width, 21 >> level, 26 >> level) for level in range(3)]
    depthwise = [draw.tensor(3 * width, 1, 3, 3) / 3 for _ in dilations]
    pointwise = [draw.tensor(48, 3 * width, 1, 1) / (3 * width) ** 0.5 for _ in dilations]
    check_jpu(maps, depthwise, pointwise, draw.tensor(2, 48), dilations, True)
