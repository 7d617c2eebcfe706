"""Separable convolution in training, which saves only its input, against its layers in float64."""

import copy

import pytest
import torch
from torch import Tensor, nn

from fastfcn.models.layers import SeparableConv
from fastfcn.ops.separable import separable_conv
from tests.helpers import needed
from tests.helpers.drawn_tensors import Draw

pytestmark = needed.KERNELS
NAMES = ("depthwise.conv.weight", "depthwise.bn.weight", "depthwise.bn.bias", "pointwise.conv.weight")


def layer_of(draw: Draw, channels: int, outputs: int, dilation: int) -> SeparableConv:
    layer = SeparableConv(channels, outputs, dilation).train()
    for weight in layer.parameters():
        weight.data = draw.tensor(*weight.shape)
    return layer


def plain(layer: SeparableConv, features: Tensor) -> Tensor:
    return layer.pointwise.conv(layer.depthwise(features))


def separable(layer: SeparableConv, features: Tensor) -> Tensor:
    spatial, norm = layer.depthwise.conv, layer.depthwise.bn
    return separable_conv(features, spatial.weight, norm, layer.pointwise.conv.weight, spatial.dilation[0])


@pytest.mark.parametrize("seed", range(8))
def test_results_and_gradients(seed: int):
    draw = Draw(seed)
    channels, outputs = 16 * draw.number(1, 6), draw.number(1, 50)
    layer = layer_of(draw, channels, outputs, [1, 2, 4, 8][seed % 4])
    reference = copy.deepcopy(layer).double()
    features = draw.features(draw.number(1, 3), channels, draw.number(2, 20), draw.number(2, 20)) + seed % 3
    features.requires_grad_()
    actual, expected = separable(layer, features), plain(reference, features.double())
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-4)
    slope = draw.features(*actual.shape)
    ours = torch.autograd.grad(actual, (features, *(layer.get_parameter(name) for name in NAMES)), slope)
    parameters = [reference.get_parameter(name) for name in NAMES]
    theirs = torch.autograd.grad(expected, (features, *parameters), slope.double())
    # After batch norm, the gradient of the depthwise weight is a small difference of large sums.
    for name, one, other in zip(("features", *NAMES), ours, theirs, strict=True):
        distance = (one.double() - other.double()).norm() / other.double().norm()
        assert distance < 2e-4, f"the gradient of {name} is {distance:.1e} apart"
    for name, buffer in reference.depthwise.bn.named_buffers():
        torch.testing.assert_close(layer.depthwise.bn.get_buffer(name), buffer.to(layer.depthwise.bn.get_buffer(name)))


def test_only_the_input_is_kept():
    draw, kept = Draw(0), []
    layer, features = layer_of(draw, 32, 8, 2), draw.features(2, 32, 20, 30).requires_grad_()

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        separable(layer, features)
    inputs = [tensor.data_ptr() for tensor in kept if tensor.dim() == 4 and tensor.shape[-1] == 30]
    assert inputs == [features.data_ptr()]


@pytest.mark.parametrize("momentum", [0.1, None])
def test_norms_without_momentum_and_without_statistics(momentum: float | None):
    draw = Draw(4)
    layer = layer_of(draw, 16, 8, 1)
    layer.depthwise.bn = nn.BatchNorm2d(16, momentum=momentum)
    reference, features = copy.deepcopy(layer), draw.features(2, 16, 9, 9)
    for _ in range(3):
        separable(layer, features), plain(reference, features)
    torch.testing.assert_close(layer.depthwise.bn.state_dict(), reference.depthwise.bn.state_dict())
    layer.depthwise.bn = nn.BatchNorm2d(16, track_running_stats=False)
    torch.testing.assert_close(separable(layer, features), plain(layer, features), rtol=1e-4, atol=1e-4)


def test_a_second_gradient_is_refused():
    draw = Draw(2)
    layer, features = layer_of(draw, 16, 8, 1), draw.features(2, 16, 4, 4).requires_grad_()
    (slope,) = torch.autograd.grad(separable(layer, features).square().sum(), features, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
