"""Results are bit-identical for every number of threads, however the parts are scheduled."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fastfcn.kernels import packing
from tests.helpers import needed
from tests.helpers.drawn_tensors import Draw
from tests.kernels.reference import threads

pytestmark = needed.KERNELS


def pointwise(draw: Draw) -> Tensor:
    features, packed = draw.features(1, 96, 61, 67), packing.pack_pointwise(draw.tensor(80, 96, 1, 1))
    return torch.ops.fastfcn.pointwise(features, packed, draw.tensor(80), True, 1)


def winograd(draw: Draw, inputs: int, outputs: int) -> Tensor:
    taps = torch.ops.fastfcn.pack_taps(draw.tensor(outputs, inputs, 3, 3), False)
    return torch.ops.fastfcn.winograd(draw.features(1, inputs, 67, 71), taps, draw.tensor(outputs), True, 1, 1, 6)


def winograd_of_few_channels(draw: Draw) -> Tensor:
    return winograd(draw, 32, 48)


def winograd_of_many_channels(draw: Draw) -> Tensor:
    return winograd(draw, 192, 160)


def winograd_of_many_outputs(draw: Draw) -> Tensor:
    return winograd(draw, 64, 288)


def winograd_pool(draw: Draw) -> Tensor:
    taps = torch.ops.fastfcn.pack_taps(draw.tensor(32, 16, 3, 3), False)
    return torch.ops.fastfcn.winograd_pool(draw.features(2, 16, 70, 59), taps, draw.tensor(32), 6)


def winograd_weight_gradient(draw: Draw) -> Tensor:
    features, gradients = draw.features(2, 64, 41, 43), draw.features(2, 160, 41, 43)
    return torch.ops.fastfcn.winograd_weight_gradient(features, gradients, 1, 6)


def jpu(draw: Draw) -> Tensor:
    maps = [draw.features(1, 32, 60 >> level, 72 >> level) for level in range(3)]
    taps = torch.stack([packing.pack_depthwise(draw.tensor(96, 1, 3, 3)) for _ in range(4)])
    packed = torch.stack([packing.pack_pointwise(draw.tensor(48, 96, 1, 1)) for _ in range(4)])
    return torch.ops.fastfcn.jpu(maps, taps, packed, draw.tensor(4, 48), (1, 2, 4, 8), True)


def depthwise(draw: Draw) -> Tensor:
    return torch.ops.fastfcn.depthwise(draw.features(2, 208, 13, 17), draw.tensor(208, 1, 3, 3), draw.tensor(208), 2)


OPERATORS = [
    pointwise, winograd_of_few_channels, winograd_of_many_channels, winograd_of_many_outputs, winograd_pool,
    winograd_weight_gradient, jpu, depthwise,
]  # fmt: skip


@pytest.mark.parametrize("operator", OPERATORS)
def test_results_do_not_depend_on_threads(operator: Callable[[Draw], Tensor]):
    with threads(1):
        alone = operator(Draw(0))
    for count in (2, 3, 5, 2, 3, 5):  # possibly more than there are cores, so that threads delay each other
        with threads(count):
            assert torch.equal(operator(Draw(0)), alone), count
