"""Class overlap of low-resolution logits, against the softmax at full size."""

import pytest
import torch
import torch.nn.functional as F

from fastfcn.ops import cross_entropy as module
from fastfcn.ops.class_overlap import upsampled_class_overlap
from fastfcn.ops.cross_entropy import upsampled_cross_entropy, upsampled_pixel_losses
from fastfcn.utils.sizes import IGNORE_INDEX
from tests.ops.test_cross_entropy import Largest, drawn_labels, random


@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("align_corners", [False, True])
def test_equal_to_the_full_size_softmax(align_corners: bool, rows: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CPU_STRIP", rows * 6 * 29)
    logits, labels = (3 * random(2, 6, 5, 7)).requires_grad_(), drawn_labels(2, 6, (21, 29))
    softmax = F.interpolate(logits, size=(21, 29), mode="bilinear", align_corners=align_corners).softmax(1)
    labeled = (labels != IGNORE_INDEX)[:, None]
    one_hot = F.one_hot(labels.long().masked_fill(labels == IGNORE_INDEX, 6), 7)[..., :6].movedim(3, 1)
    expected = [(softmax * one_hot).sum((2, 3)), (softmax * labeled).sum((2, 3)), one_hot.sum((2, 3)).double()]
    result = upsampled_class_overlap(logits, labels, align_corners, IGNORE_INDEX)
    torch.testing.assert_close(list(result), expected)
    assert not result[2].requires_grad
    weights = random(2, 6, seed=1), random(2, 6, seed=2)
    losses = [
        sum((weight * part).sum() for weight, part in zip(weights, parts[:2], strict=True))
        for parts in (result, expected)
    ]
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in losses]
    torch.testing.assert_close(*gradients)


def test_pixel_losses_equal_those_of_pytorch():
    logits, labels = 3 * random(2, 6, 5, 7), drawn_labels(2, 6, (21, 29))
    full = F.interpolate(logits, size=(21, 29), mode="bilinear")
    expected = F.cross_entropy(full, labels.long(), ignore_index=IGNORE_INDEX, reduction="none")
    torch.testing.assert_close(upsampled_pixel_losses(logits, labels, False, IGNORE_INDEX), expected)


def test_full_size_logits_are_not_allocated(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CPU_STRIP", 8 * 150 * 64)  # eight rows
    logits, labels = random(2, 150, 8, 8).requires_grad_(), drawn_labels(2, 150, (64, 64))
    weights = torch.rand(2, 64, 64, dtype=torch.float64)
    with Largest() as ours:
        overlap, predicted, _ = upsampled_class_overlap(logits, labels, False, IGNORE_INDEX)
        (overlap.sum() + predicted.square().sum()).backward()
        upsampled_pixel_losses(logits, labels, False, IGNORE_INDEX)
        upsampled_cross_entropy(logits, labels, False, IGNORE_INDEX, weights).backward()
    assert ours.elements <= 2 * 150 * 64 * 64 / 8


def test_double_backward_is_refused():
    logits, labels = random(1, 5, 4, 4).requires_grad_(), drawn_labels(1, 5, (16, 16))
    overlap, _, _ = upsampled_class_overlap(logits, labels, False, IGNORE_INDEX)
    with pytest.raises(RuntimeError, match="create_graph"):
        torch.autograd.grad(overlap.sum(), logits, create_graph=True)
