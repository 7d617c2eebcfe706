"""A training step does not wait for the GPU, found without one."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fastfcn.losses import (
    BoundaryCrossEntropy,
    CrossEntropy,
    DiceLoss,
    FocalLoss,
    HardPixels,
    LossTerms,
    LovaszLoss,
    PixelLoss,
    SmoothedCrossEntropy,
    TverskyLoss,
    WeightedCrossEntropy,
    segmentation_loss,
)
from fastfcn.training.train import _loss_pixels
from tests.helpers.gpu_waits import no_gpu_waits

LOSSES: tuple[PixelLoss, ...] = (
    CrossEntropy(), WeightedCrossEntropy((1.0, 2.0, 3.0)), SmoothedCrossEntropy(0.1), FocalLoss(2.0),
    BoundaryCrossEntropy(3.0, 2), HardPixels(0.7, 0.1), DiceLoss(0.7, 0.5), TverskyLoss(0.3, 0.7, 0.7, 0.5),
    LovaszLoss(0.7, 0.5),
)  # fmt: skip


@pytest.mark.parametrize("wait", [torch.Tensor.cpu, lambda tensor: tensor.copy_(torch.ones(2))])
def test_waits_are_noticed(wait: Callable):
    with pytest.raises(AssertionError, match="cpu"), no_gpu_waits():
        wait(torch.ones(2, device="cuda"))


@pytest.mark.parametrize("mean_over", ["all", "labeled"])
@pytest.mark.parametrize("pixels", LOSSES, ids=lambda loss: type(loss).__name__)
def test_losses(pixels: PixelLoss, mean_over: Any):
    fabric: Any = SimpleNamespace(device=torch.device("cuda"), all_reduce=lambda count, reduce_op: count)
    terms = LossTerms(mean_over, False, pixels)
    with no_gpu_waits():
        labels = torch.zeros(2, 32, 48, dtype=torch.uint8, device="cuda")
        logits = torch.zeros(2, 3, 8, 12, device="cuda", requires_grad=True)
        count = _loss_pixels([labels, labels], mean_over, fabric)
        assert (count.device.type, count.dtype) == ("cuda", torch.float32)
        assert segmentation_loss(logits, {}, labels, terms, count, 4)["loss"].requires_grad
