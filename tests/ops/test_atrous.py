"""Dilated convolution whose gradient leaves out the zeros, against PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn.ops.atrous import atrous_conv


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(features: Tensor, weight: Tensor, dilation: int) -> Tensor:
    return F.conv2d(features, weight, padding=dilation, dilation=dilation)


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("dilation", [1, 3, 7, 12, 50])
@pytest.mark.parametrize("size", [(8, 16), (7, 12), (1, 1)])
def test_equals_the_convolution(size: tuple[int, int], dilation: int, last: bool):
    """Dilations that leave all taps on the map, some, those of one row, and the middle one alone."""
    features, weight = random(2, 5, *size), random(4, 5, 3, 3, seed=1)
    if last:
        features, weight = (each.contiguous(memory_format=torch.channels_last) for each in (features, weight))
    both = (features.requires_grad_(), weight.requires_grad_())
    found, expected = atrous_conv(*both, dilation), plain(*both, dilation)
    assert torch.equal(found, expected)
    slope = random(*expected.shape, seed=2)
    gradients, wanted = (torch.autograd.grad(each, both, slope) for each in (found, expected))
    torch.testing.assert_close(gradients, wanted)
    assert gradients[1].stride() == weight.stride()


def test_gradients():
    features, weight = random(1, 2, 5, 6).requires_grad_(), random(3, 2, 3, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda *each: atrous_conv(*each, 4), (features, weight))


def test_images_need_no_gradient():
    features, weight = random(1, 2, 9, 9), random(3, 2, 3, 3, seed=1).requires_grad_()
    (found,) = torch.autograd.grad(atrous_conv(features, weight, 6).square().sum(), weight)
    (expected,) = torch.autograd.grad(plain(features, weight, 6).square().sum(), weight)
    torch.testing.assert_close(found, expected)


def test_under_autocast_it_is_the_convolution():
    features, weight = random(1, 2, 9, 9).float().requires_grad_(), random(3, 2, 3, 3, seed=1).float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = atrous_conv(features, weight, 2), plain(features, weight, 2)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)
    found.float().sum().backward()
    assert weight.grad is not None


def test_the_gradient_of_the_gradient_is_refused():
    features, weight = random(1, 2, 4, 4).requires_grad_(), random(2, 2, 3, 3).requires_grad_()
    with pytest.raises(RuntimeError, match="once only"):
        torch.autograd.grad(atrous_conv(features, weight, 2).sum(), weight, create_graph=True)
