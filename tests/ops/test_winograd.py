"""Winograd's convolution in training against torch's own, in float64."""

import pytest
import torch
import torch.nn.functional as F

from fastfcn.ops.winograd import winograd_conv
from tests.helpers import needed
from tests.helpers.drawn_tensors import Draw

pytestmark = needed.KERNELS


@pytest.mark.parametrize("seed", range(8))
def test_results_and_gradients(seed: int):
    draw = Draw(seed)
    inputs, outputs, dilation = 16 * draw.number(1, 6), 16 * draw.number(1, 6), [1, 2, 12, 1][seed % 4]
    features = draw.features(draw.number(1, 3), inputs, draw.number(1, 20), draw.number(1, 20)).requires_grad_()
    weight = (draw.tensor(outputs, inputs, 3, 3) / (9 * inputs) ** 0.5).requires_grad_()
    actual = winograd_conv(features, weight, dilation)
    expected = F.conv2d(features.double(), weight.double(), padding=dilation, dilation=dilation)
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=1e-4)
    slope = draw.features(*actual.shape)
    ours = torch.autograd.grad(actual, (features, weight), slope)
    theirs = torch.autograd.grad(expected, (features, weight), slope.double())
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4 * float(other.std(correction=0) + 1e-3))


def test_only_requested_gradients():
    draw = Draw(1)
    features, weight = draw.features(2, 16, 6, 7), draw.tensor(32, 16, 3, 3)
    winograd_conv(features, weight.requires_grad_(), 1).sum().backward()
    assert weight.grad is not None
    assert features.grad is None
    winograd_conv(features.requires_grad_(), weight.detach(), 1).sum().backward()
    assert features.grad is not None
    assert not winograd_conv(features.detach(), weight.detach(), 1).requires_grad


def test_a_second_gradient_is_refused():
    features = torch.ones(1, 16, 4, 4, requires_grad=True)
    result = winograd_conv(features, torch.ones(16, 16, 3, 3), 1)
    (slope,) = torch.autograd.grad(result.square().sum(), features, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
