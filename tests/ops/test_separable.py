"""Depthwise convolution, batch norm and 1x1 convolution in one against the three layers."""

import copy

import pytest
import torch
from torch import Tensor, nn

from fastfcn.ops.separable import Norm, separable_conv

CHANNELS, OUTPUTS = 6, 4


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layers(dilation: int, kind: torch.dtype = torch.float64) -> nn.Sequential:
    """The reference: the three layers, in training, the norm not the identity."""
    torch.manual_seed(dilation)
    first = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=dilation, dilation=dilation, groups=CHANNELS, bias=False)
    norm = nn.BatchNorm2d(CHANNELS)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.normal_(norm.bias)
    return nn.Sequential(first, norm, nn.Conv2d(CHANNELS, OUTPUTS, 1, bias=False)).to(kind)


def in_one(own: nn.Sequential, features: Tensor, dilation: int) -> Tensor:
    first, norm, last = own
    about = Norm(norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps)
    return separable_conv(features, first.weight, about, last.weight, dilation)


def outcome(own: nn.Sequential, features: Tensor, result: Tensor) -> list[Tensor]:
    """The result, all gradients, and the running statistics."""
    slope = random(*result.shape, seed=3).to(result.dtype)
    gradients = torch.autograd.grad(result, [features, *own.parameters()], slope)
    return [result, *gradients, own[1].running_mean, own[1].running_var]


@pytest.mark.parametrize("dilation", [1, 2, 8])
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_equals_the_layers(dilation: int, last: bool):
    one, three = layers(dilation), layers(dilation)
    features = random(2, CHANNELS, 9, 13)
    features = (features.contiguous(memory_format=torch.channels_last) if last else features).requires_grad_()
    found = outcome(one, features, in_one(one, features, dilation))
    expected = outcome(three, features, three(features))
    torch.testing.assert_close(found, expected)


def test_float32_stays_close():
    exact = layers(4)
    one = copy.deepcopy(exact).float()
    features = random(2, CHANNELS, 16, 24).requires_grad_()
    low = features.detach().float().requires_grad_()
    found, expected = outcome(one, low, in_one(one, low, 4)), outcome(exact, features, exact(features))
    for ours, truth in zip(found, expected, strict=True):
        assert (ours - truth).abs().max() < 1e-5 * truth.abs().max()


def test_statistics_stay_where_none_are_given():
    own = layers(2)
    first, norm, last = own
    features = random(2, CHANNELS, 9, 13)
    result = separable_conv(
        features, first.weight, Norm(norm.weight, norm.bias, None, None, 0.1, norm.eps), last.weight, 2
    )
    assert torch.equal(norm.running_mean, torch.zeros(CHANNELS, dtype=torch.float64))
    torch.testing.assert_close(result, own(features))


def test_under_autocast_it_is_what_the_layers_are():
    one, three = layers(2, torch.float32), layers(2, torch.float32)
    features = random(2, CHANNELS, 9, 13).float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = in_one(one, features, 2)
        with torch.autocast("cpu", enabled=False):
            normed = three[1](three[0](features))
        expected = three[2](normed)
    assert found.dtype == expected.dtype == torch.bfloat16
    for ours, theirs in zip(outcome(one, features, found), outcome(three, features, expected), strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)


def test_only_the_input_is_kept():
    own = layers(2)
    features = random(2, CHANNELS, 32, 32).requires_grad_()

    def kept(run) -> set[int]:
        """Storages as large as the map that the graph keeps."""
        found: set[int] = set()

        def note(each: Tensor) -> Tensor:
            if each.numel() == features.numel():
                found.add(each.untyped_storage().data_ptr())
            return each

        with torch.autograd.graph.saved_tensors_hooks(note, lambda each: each):
            held.append(run())
        return found

    held: list[Tensor] = []
    assert kept(lambda: in_one(own, features, 2)) == {features.untyped_storage().data_ptr()}
    assert len(kept(lambda: own(features))) == 3
