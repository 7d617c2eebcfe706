"""Depthwise convolution by phases against PyTorch's own, dilated one."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn.ops.depthwise import depthwise_conv, joined, phases


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(features: Tensor, weight: Tensor, dilation: int) -> Tensor:
    return F.conv2d(features, weight, padding=dilation, dilation=dilation, groups=features.shape[1])


@pytest.mark.parametrize("dilation", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("size", [(16, 32), (13, 21), (3, 5), (1, 1)])
def test_equals_the_dilated_convolution(size: tuple[int, int], dilation: int):
    features, weight = random(2, 6, *size).requires_grad_(), random(6, 1, 3, 3, seed=1).requires_grad_()
    found, expected = (each(features, weight, dilation) for each in (depthwise_conv, plain))
    torch.testing.assert_close(found, expected)
    slope = random(*expected.shape, seed=2)
    gradients = [torch.autograd.grad(each, (features, weight), slope) for each in (found, expected)]
    torch.testing.assert_close(*gradients)
    with torch.no_grad():
        torch.testing.assert_close(depthwise_conv(features, weight, dilation), expected)


def test_gradients():
    features, weight = random(2, 3, 5, 7).requires_grad_(), random(3, 1, 3, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda *each: depthwise_conv(*each, 2), (features, weight))


def test_channels_stay_last():
    features = random(2, 6, 13, 21).float().contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = random(6, 1, 3, 3, seed=1).float().requires_grad_()
    found = depthwise_conv(features, weight, 8)
    found.backward(torch.ones_like(found))
    for each in (found, features.grad):
        assert each is not None
        assert each.is_contiguous(memory_format=torch.channels_last)


def test_images_need_no_gradient():
    features, weight = random(1, 4, 9, 9), random(4, 1, 3, 3, seed=1).requires_grad_()
    (found,) = torch.autograd.grad(depthwise_conv(features, weight, 4).square().sum(), weight)
    (expected,) = torch.autograd.grad(plain(features, weight, 4).square().sum(), weight)
    torch.testing.assert_close(found, expected)


def test_phases_are_pixels_of_equal_remainders():
    features = random(2, 3, 7, 10)
    small = phases(features, 3)
    assert small.shape == (2 * 9, 3, 3, 4)
    assert torch.equal(small[9 + 3 * 1 + 2, :, :2, :3], features[1, :, 1::3, 2::3][:, :2, :3])
    assert torch.equal(joined(small, 3, features.shape), features)


def test_the_gradient_of_the_gradient_is_refused():
    features, weight = random(1, 2, 4, 4).requires_grad_(), random(2, 1, 3, 3)
    with pytest.raises(RuntimeError, match="once only"):
        torch.autograd.grad(depthwise_conv(features, weight, 2).sum(), features, create_graph=True)
