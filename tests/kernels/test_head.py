"""Operators of heads against plain torch: Encoding layer, gated classifier, resize with argmax."""

import pytest
import torch
import torch.nn.functional as F

from fastfcn.kernels import packing
from fastfcn.ops.encoding import encode
from fastfcn.ops.upsample import upsample_labels
from tests.helpers import needed
from tests.helpers.drawn_tensors import Draw
from tests.kernels.reference import TOLERANCE

pytestmark = needed.KERNELS


@pytest.mark.parametrize("seed", range(8))
def test_gated_classifier(seed: int):
    draw = Draw(seed)
    images, count, channels, classes = draw.number(1, 3), draw.number(1, 40), draw.number(1, 300), draw.number(1, 160)
    codes, scale, shift = draw.tensor(images, count, channels), draw.tensor(count), draw.tensor(count)
    gate, bias = draw.tensor(channels, channels) / channels**0.5, draw.tensor(channels)
    classifier = draw.tensor(classes, channels)
    actual = torch.ops.fastfcn.gated_classifier(codes, scale, shift, gate, bias, packing.pack_matrix(classifier.T))
    mean = (codes.double() * scale.double()[:, None] + shift.double()[:, None]).relu().mean(1)
    gamma = F.linear(mean, gate.double(), bias.double()).sigmoid()
    expected = torch.stack([packing.pack_matrix((classifier * (1 + gate)).T.float()) for gate in gamma])
    torch.testing.assert_close(actual, expected, **TOLERANCE)


@pytest.mark.parametrize("seed", range(8))
def test_encode(seed: int):
    draw = Draw(seed)
    channels, codes = draw.number(1, 70), draw.number(1, 70)
    features = draw.features(draw.number(1, 3), channels, draw.number(1, 21), draw.number(1, 33))
    codewords = draw.tensor(codes, channels)
    scale = draw.tensor(codes) * 10 ** draw.number(-3, 2)  # from nearly uniform assignments to a single codeword
    actual = torch.ops.fastfcn.encode(features, packing.pack_matrix(codewords.T), scale)
    pixels = features.double().flatten(2).transpose(1, 2)
    differences = pixels[:, :, None] - codewords.double()
    assignment = (scale.double() * differences.square().sum(3)).softmax(2)
    exact = (assignment[..., None] * differences).sum(1)
    plain = encode(pixels.float(), codewords, scale)
    bound = max(2 * (plain - exact).abs().max().item(), 1e-5 * exact.abs().max().item())
    assert (actual - exact).abs().max() <= bound


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("classes", [1, 2, 16, 19, 150, 256])
def test_labels(classes: int, align_corners: bool):
    draw = Draw(classes)
    for _ in range(4):
        logits = draw.features(draw.number(1, 3), classes, draw.number(1, 9), draw.number(1, 12))
        size = (draw.number(1, 50), draw.number(1, 70))
        full = F.interpolate(logits.double(), size, mode="bilinear", align_corners=align_corners)
        actual = torch.ops.fastfcn.upsample_labels(logits, *size, align_corners)
        assert actual.dtype == torch.uint8
        chosen = full.gather(1, actual.long()[:, None])[:, 0]
        assert (full.amax(1) - chosen).max() < 1e-5, "a class whose logit is not the highest"
        same = actual == upsample_labels(logits, [size], align_corners)
        assert same.float().mean() > 0.999


@pytest.mark.parametrize("align_corners", [False, True])
def test_labels_of_a_map_made_smaller(align_corners: bool):
    logits = Draw(5).features(1, 7, 40, 100)
    actual = torch.ops.fastfcn.upsample_labels(logits, 21, 37, align_corners)
    assert (actual == upsample_labels(logits, [(21, 37)], align_corners)).float().mean() > 0.999


def test_labels_of_equal_scores_are_the_lowest_class():
    draw = Draw(3)
    logit = draw.tensor(1, 1, 6, 7)
    logits = torch.cat([logit - 1, logit, logit - 2, logit, logit], dim=1)
    actual = torch.ops.fastfcn.upsample_labels(logits, 48, 56, False)
    assert torch.equal(actual, torch.ones_like(actual))
    assert torch.equal(
        torch.ops.fastfcn.upsample_labels(torch.zeros(1, 40, 3, 3), 9, 9, False), torch.zeros_like(actual)[:, :9, :9]
    )
