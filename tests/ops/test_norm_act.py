"""Batch norm, limited ReLU and convolution in training against the separate layers in float64."""

import copy
from math import inf

import pytest
import torch
from torch import Tensor, nn

from fastfcn.models.backbone import SamePaddedConv2d
from fastfcn.ops.norm_act import norm_act_conv
from tests.helpers.drawn_tensors import Draw


def layers(draw: Draw, channels: int, outputs: int, kernel: int, stride: int, groups: int, same: bool):
    kind, padding = (SamePaddedConv2d, 0) if same else (nn.Conv2d, kernel // 2)
    conv = kind(channels, outputs, kernel, stride, padding, groups=groups, bias=False)
    norm = nn.BatchNorm2d(channels, eps=1e-3)
    for weight in (*conv.parameters(), *norm.parameters()):
        weight.data = draw.tensor(*weight.shape)
    return norm, conv


@pytest.mark.parametrize("seed", range(8))
def test_results_gradients_and_statistics(seed: int):
    draw = Draw(seed)
    channels, same, depthwise = draw.number(1, 20), bool(seed % 2), seed % 4 > 1
    kernel, stride, limit = [3, 5, 1, 3][seed % 4], 1 + seed // 4, [6.0, inf, 0.5][seed % 3]
    outputs = channels if depthwise else draw.number(1, 9)
    norm, conv = layers(draw, channels, outputs, kernel, stride, channels if depthwise else 1, same)
    plain_norm, plain_conv = copy.deepcopy(norm).double(), copy.deepcopy(conv).double()
    features = (draw.features(3, channels, draw.number(3, 20), draw.number(3, 20)) + seed % 3).requires_grad_()
    exact = features.detach().double().requires_grad_()
    padding = (0, 0, 0, 0)
    if same:
        vertical, horizontal = conv.paddings(features.shape[-2:])
        padding = (*horizontal, *vertical)
    actual = norm_act_conv(features, norm, limit, conv, padding)
    expected = plain_conv(plain_norm(exact).relu().clamp(max=limit))
    torch.testing.assert_close(actual.double(), expected, rtol=1e-4, atol=1e-4)
    slope = draw.features(*actual.shape)
    ours = torch.autograd.grad(actual, (features, *norm.parameters(), *conv.parameters()), slope)
    theirs = torch.autograd.grad(expected, (exact, *plain_norm.parameters(), *plain_conv.parameters()), slope.double())
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-3)
    for name, value in plain_norm.named_buffers():
        torch.testing.assert_close(norm.get_buffer(name), value.to(norm.get_buffer(name)))


def test_only_the_input_of_the_norm_is_saved():
    draw, saved = Draw(0), []
    norm, conv = layers(draw, 16, 16, 3, 2, 16, False)
    features = draw.tensor(2, 16, 20, 30).requires_grad_()

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        norm_act_conv(features, norm, 6.0, conv)
    assert [tensor for tensor in saved if tensor.dim() == 4 and tensor.numel() > conv.weight.numel()] == [features]


def test_a_mean_over_all_batches():
    """A norm without momentum averages its statistics over all batches."""
    draw = Draw(1)
    norm, conv = layers(draw, 4, 2, 1, 1, 1, False)
    norm.momentum = None
    batches = [draw.tensor(2, 4, 5, 6) for _ in range(3)]
    for batch in batches:
        norm_act_conv(batch, norm, 6.0, conv)
    assert int(norm.num_batches_tracked) == 3
    torch.testing.assert_close(norm.running_mean, torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0))
