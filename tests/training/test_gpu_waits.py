"""A training step does not wait for the GPU, found without one."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fastfcn import build
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
from fastfcn.training import train
from fastfcn.training.train import _loss_pixels
from fastfcn.utils.machine import Machine
from tests.helpers.gpu_waits import no_gpu_waits
from tests.helpers.tiny import tiny_recipe, write_streets

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


@pytest.mark.parametrize(("device", "dtype"), [("cpu", torch.float32), ("cuda", torch.uint8)])
def test_images_travel_to_a_gpu_as_bytes(tmp_path: Path, device: str, dtype: torch.dtype):
    recipe = tiny_recipe()
    dataset = build.dataset(recipe, build.description(recipe), write_streets(tmp_path), "train", train=True)
    fabric: Any = SimpleNamespace(
        device=torch.device(device), global_rank=0, world_size=1, setup_dataloaders=lambda loader, **_: loader
    )
    (batch, _), *_ = train._batches(recipe, dataset, recipe.steps - 1, fabric, Machine("cpu", workers=0))
    assert batch.dtype == dtype
    images = train._network_input(batch, recipe)
    assert (images.dtype, images.shape) == (torch.float32, (4, 3, 64, 96))
    assert images.is_contiguous(memory_format=torch.channels_last)
