"""Sums of the softmax by class from low-resolution logits, against the softmax at full size."""

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
def test_sums_are_those_of_the_full_softmax(align_corners: bool, rows: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CPU_STRIP", rows * 6 * 29)
    logits, labels = (3 * random(2, 6, 5, 7)).requires_grad_(), drawn_labels(2, 6, (21, 29))
    share = F.interpolate(logits, size=(21, 29), mode="bilinear", align_corners=align_corners).softmax(1)
    labelled = (labels != IGNORE_INDEX)[:, None]
    held = F.one_hot(labels.long().masked_fill(labels == IGNORE_INDEX, 6), 7)[..., :6].movedim(3, 1)
    expected = [(share * held).sum((2, 3)), (share * labelled).sum((2, 3)), held.sum((2, 3)).double()]
    found = upsampled_class_overlap(logits, labels, align_corners, IGNORE_INDEX)
    torch.testing.assert_close(list(found), expected)
    assert not found[2].requires_grad
    weights = random(2, 6, seed=1), random(2, 6, seed=2)
    losses = [
        sum((one * part).sum() for one, part in zip(weights, each[:2], strict=True)) for each in (found, expected)
    ]
    slopes = [torch.autograd.grad(loss, logits)[0] for loss in losses]
    torch.testing.assert_close(*slopes)


def test_losses_of_pixels_are_pytorchs():
    logits, labels = 3 * random(2, 6, 5, 7), drawn_labels(2, 6, (21, 29))
    full = F.interpolate(logits, size=(21, 29), mode="bilinear")
    expected = F.cross_entropy(full, labels.long(), ignore_index=IGNORE_INDEX, reduction="none")
    torch.testing.assert_close(upsampled_pixel_losses(logits, labels, False, IGNORE_INDEX), expected)


def test_full_size_scores_never_exist(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CPU_STRIP", 8 * 150 * 64)  # eight rows
    logits, labels = random(2, 150, 8, 8).requires_grad_(), drawn_labels(2, 150, (64, 64))
    weights = torch.rand(2, 64, 64, dtype=torch.float64)
    with Largest() as ours:
        right, claimed, _ = upsampled_class_overlap(logits, labels, False, IGNORE_INDEX)
        (right.sum() + claimed.square().sum()).backward()
        upsampled_pixel_losses(logits, labels, False, IGNORE_INDEX)
        upsampled_cross_entropy(logits, labels, False, IGNORE_INDEX, weights).backward()
    assert ours.elements <= 2 * 150 * 64 * 64 / 8


def test_the_gradient_of_the_gradient_is_refused():
    logits, labels = random(1, 5, 4, 4).requires_grad_(), drawn_labels(1, 5, (16, 16))
    right, _, _ = upsampled_class_overlap(logits, labels, False, IGNORE_INDEX)
    with pytest.raises(RuntimeError, match="once only"):
        torch.autograd.grad(right.sum(), logits, create_graph=True)
