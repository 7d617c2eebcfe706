"""Operators for training against plain torch in float64, for random shapes."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn.kernels import packing
from tests.helpers import needed
from tests.helpers.drawn_tensors import Draw

pytestmark = needed.KERNELS
operators = torch.ops.fastfcn


def weights_in(draw: Draw, *shape: int) -> Tensor:
    """Weights stored contiguously or channels last, or as a slice of a larger tensor."""
    match draw.number(0, 2):
        case 0:
            return draw.tensor(*shape).contiguous(memory_format=torch.channels_last)
        case 1:
            return draw.tensor(*shape)
        case _:
            outputs, inputs, *window = shape
            return draw.tensor(outputs, inputs + 5, *window)[:, 5:]


def packed_taps(weight: Tensor) -> Tensor:
    """(O, I, 3, 3) -> (panels, I, 9, panel)."""
    inputs = weight.shape[1]
    packed = packing.pack_matrix(weight.permute(1, 2, 3, 0).reshape(inputs * 9, -1))
    return packed.reshape(packed.shape[0], inputs, 9, -1)


@pytest.mark.parametrize("seed", range(9))
def test_pack_taps(seed: int):
    draw = Draw(seed)
    weight = weights_in(draw, draw.number(1, 90), draw.number(1, 90), 3, 3)
    assert torch.equal(operators.pack_taps(weight, False), packed_taps(weight))
    backward = weight.flip(2, 3).transpose(0, 1)
    assert torch.equal(operators.pack_taps(weight, True), packed_taps(backward))


def weight_gradient(features: Tensor, gradient: Tensor, dilation: int, groups: int = 1) -> Tensor:
    """The gradient of torch's convolution in float64."""
    weight = torch.zeros(gradient.shape[1], features.shape[1] // groups, 3, 3, dtype=torch.double, requires_grad=True)
    result = F.conv2d(features.double(), weight, padding=dilation, dilation=dilation, groups=groups)
    result.backward(gradient.double())
    assert weight.grad is not None
    return weight.grad


def check_weight_gradient(features: Tensor, gradient: Tensor, dilation: int, longest: int) -> None:
    actual = operators.winograd_weight_gradient(features, gradient, dilation, longest)
    expected = weight_gradient(features, gradient, dilation)
    assert actual.is_contiguous(memory_format=torch.channels_last)
    # A sum over all pixels of products of unit variance: the tolerance is relative to its standard deviation.
    deviation = (features.shape[0] * features.shape[2] * features.shape[3]) ** 0.5
    torch.testing.assert_close(actual.double() / deviation, expected / deviation, rtol=0, atol=2e-4)


@pytest.mark.parametrize("longest", [3, 4, 5, 6])
@pytest.mark.parametrize("seed", range(8))
def test_winograd_weight_gradient(longest: int, seed: int):
    draw = Draw(seed)
    inputs, outputs, dilation = 16 * draw.number(1, 5), 16 * draw.number(1, 4), [1, 2, 4, 12, 36, 1, 3, 1][seed]
    features = draw.features(draw.number(1, 3), inputs, draw.number(1, 23), draw.number(1, 31))
    gradient = draw.features(features.shape[0], outputs, *features.shape[2:])
    check_weight_gradient(features, gradient, dilation, longest)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 2), (3, 1), (5, 2), (7, 11), (13, 4)])
@pytest.mark.parametrize("dilation", [1, 3])
def test_winograd_weight_gradient_of_every_length_of_tile(size: tuple[int, int], dilation: int):
    draw = Draw(sum(size))
    height, width = (side * dilation for side in size)
    for longest in (3, 4, 5, 6):
        check_weight_gradient(
            draw.features(2, 16, height, width), draw.features(2, 32, height, width), dilation, longest
        )


def test_winograd_weight_gradient_in_several_parts():
    """More tiles than are processed at once."""
    draw = Draw(1)
    check_weight_gradient(draw.features(2, 80, 70, 81), draw.features(2, 48, 70, 81), 1, 4)


@pytest.mark.parametrize("seed", range(12))
def test_depthwise(seed: int):
    draw = Draw(seed)
    channels, dilation = 16 * draw.number(1, 6), [1, 2, 4, 8, 12, 3][seed % 6]
    features = draw.features(draw.number(1, 3), channels, draw.number(1, 21), draw.number(1, 33))
    weight, shift = draw.tensor(channels, 1, 3, 3), draw.tensor(channels)
    settings = {"padding": dilation, "dilation": dilation, "groups": channels}
    expected = F.conv2d(features.double(), weight.double(), -shift.double(), **settings)
    actual = operators.depthwise(features, weight, shift, dilation)
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=1e-5)
    gradient = draw.features(*features.shape)
    actual = operators.depthwise_weight_gradient(features, gradient, dilation).double()
    expected = weight_gradient(features, gradient, dilation, channels)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_channel_moments(seed: int):
    """Also for values far from 0, where the mean of squares in float32 would be inaccurate."""
    draw = Draw(seed)
    features = draw.features(draw.number(1, 3), 16 * draw.number(1, 6), draw.number(1, 21), draw.number(1, 33))
    features = features + 100 * (seed % 2)
    mean, variance = operators.channel_moments(features)
    values = features.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(mean.double(), values.mean(1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(variance.double(), values.var(1, unbiased=False), rtol=1e-5, atol=1e-6)


def test_wrong_maps_are_refused():
    odd, even, other = torch.ones(1, 9, 4, 4), torch.ones(1, 16, 4, 4), torch.ones(1, 16, 4, 5)
    with pytest.raises(RuntimeError, match="multiples"):
        operators.winograd_weight_gradient(odd, even, 1, 4)
    with pytest.raises(RuntimeError, match="of the features' size"):
        operators.winograd_weight_gradient(even, other, 1, 4)
    with pytest.raises(RuntimeError, match="3 to 6 results"):
        operators.winograd_weight_gradient(even, even, 1, 2)
    with pytest.raises(RuntimeError, match="multiples"):
        operators.depthwise(odd, torch.ones(9, 1, 3, 3), torch.ones(9), 1)
    with pytest.raises(RuntimeError, match="of shape"):
        operators.depthwise_weight_gradient(even, other, 1)
    with pytest.raises(RuntimeError, match="multiples"):
        operators.channel_moments(odd)
    with pytest.raises(RuntimeError, match="float32 weights"):
        operators.pack_taps(torch.ones(4, 4, 1, 1), False)


def test_operators_are_known_to_torch_compile_and_export():
    draw = Draw(5)
    features, gradient = draw.features(2, 16, 8, 10), draw.features(2, 16, 8, 10)
    calls = {
        "pack_taps": (draw.tensor(40, 20, 3, 3), True),
        "winograd_weight_gradient": (features, gradient, 1, 4),
        "depthwise": (features, draw.tensor(16, 1, 3, 3), draw.tensor(16), 2),
        "depthwise_weight_gradient": (features, gradient, 2),
        "channel_moments": (features,),
    }
    for name, arguments in calls.items():
        torch.library.opcheck(getattr(operators, name).default, arguments)
