"""Losses, learning rates and a run of the official family, against the rules of the official FastFCN code."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from fastfcn import build, recipes, weights
from fastfcn.losses import segmentation_loss
from fastfcn.training.run import Run
from fastfcn.training.train import train
from fastfcn.utils.machine import Machine
from tests.helpers.tiny import tiny_recipe, tiny_weights, write_streets

OFFICIAL = "official_r50_enc_pcontext"
ENC = 'head={kind="enc", width=8, codewords=4, kernel=1, dropout=0.1, align_corners=true, se_loss_weight=0.0}'
WINDOWS = 'eval={kind="sliding",every=2,base_size=52,crop=48,stride=32,scales=[0.5, 1.0],flip=true}'
AS_OFFICIAL = (
    ENC, WINDOWS, "neck.align_corners=true", "weight_init=pytorch", "loss.mean_over=labeled",
    "auxiliary.loss_weight=0.2", "head.se_loss_weight=0.2",
    "data.scale_by=short_side", "data.base_size=[52, 52]", "data.scale_range=[0.5, 2.0]",
    "data.interpolation=pillow", "data.padding=black", "data.blur=0.5", "data.crop=[48, 48]",
    "data.cat_max_ratio=1.0", "data.rotate=10", "optim.head_lr_factor=10.0", "schedule.end=after_last_step",
)  # fmt: skip


@pytest.mark.parametrize("name", [OFFICIAL, "official_r101_enc_ade20k", "official_r50_enc_ade20k_trainval"])
def test_rates_are_those_of_its_scheduler(name: str):
    """lr * (1 - T / N) ** 0.9 with N = epochs times full batches; ten times that outside the backbone."""
    used = recipes.load(name)
    steps = used.optim.steps
    for step in (0, 1, steps // 3, steps - 1):
        expected = used.optim.lr * pow(1 - 1.0 * step / steps, 0.9)
        assert build.learning_rate(used, step) == pytest.approx(expected, rel=1e-12)
        assert build.learning_rate(used, step, 10.0) == pytest.approx(10 * expected, rel=1e-12)
    assert build.learning_rate(used, steps - 1) > 0


def test_everything_but_the_backbone_learns_ten_times_as_fast():
    with torch.device("meta"):
        model = build.create(OFFICIAL)
    inside, outside = build.optimizer(recipes.load(OFFICIAL), model).param_groups
    assert (inside["factor"], outside["factor"]) == (1.0, 10.0)
    assert len(inside["params"]) == len(list(model.backbone.parameters()))
    assert len(inside["params"]) + len(outside["params"]) == len(list(model.parameters()))
    assert {group["weight_decay"] for group in (inside, outside)} == {1e-4}


@pytest.mark.parametrize(("name", "share"), [(OFFICIAL, 0.2), ("official_r50_psp_pcontext", 0.4)])
def test_the_loss_is_a_mean_over_labeled_pixels_with_aligned_corners(name: str, share: float):
    """Cross-entropy of both heads, and for EncNet 0.2 times the SE loss."""
    generator = torch.Generator().manual_seed(0)
    main, side = torch.randn(2, 5, 6, 7, generator=generator), torch.randn(2, 5, 3, 4, generator=generator)
    labels = torch.randint(0, 5, (2, 41, 50), generator=generator)
    labels[0, :20] = 255
    labels[1][labels[1] == 3] = 255
    se_logits = torch.randn(2, 5, generator=generator) if "enc" in name else None
    full = [F.interpolate(tensor, (41, 50), mode="bilinear", align_corners=True) for tensor in (main, side)]
    expected = [F.cross_entropy(logits, labels, ignore_index=255) for logits in full]
    total = expected[0] + share * expected[1]
    if se_logits is not None:
        contained = torch.tensor([[float((label == index).any()) for index in range(5)] for label in labels])
        assert contained[1].tolist() == [1, 1, 1, 0, 1]
        total = total + 0.2 * F.binary_cross_entropy(se_logits.sigmoid(), contained)
    terms = build.loss_terms(recipes.load(name))
    extras = {"auxiliary": side} | ({} if se_logits is None else {"se": se_logits})
    losses = segmentation_loss(main, extras, labels, terms, (labels != 255).sum(), 2)
    torch.testing.assert_close(losses["loss"], total)


def test_a_run_with_all_that_the_family_has(tmp_path: Path):
    """Augmentation, windows and `load_from` in one short run, which begins with the loaded weights."""
    data = write_streets(tmp_path / "data")
    start = tiny_weights(tmp_path / "start.safetensors", *AS_OFFICIAL)
    used = tiny_recipe(
        *AS_OFFICIAL, f"load_from={start}", "optim.steps=2", "data.train_split=train+val", "optim.lr=1e-9"
    )
    result = train(used, data, tmp_path / "run", Machine("cpu", workers=0))
    assert (result.step, result.best_step) == (2, 2)
    run = Run(tmp_path / "run")
    first = next(line for line in run.read_log() if "loss" in line)
    assert {"loss", "main", "auxiliary", "se"} <= first.keys()
    begun, ended = weights.read(start).tensors, weights.read(run.last).tensors
    for name in ("head.classifier.weight", "backbone.conv1.0.weight"):
        torch.testing.assert_close(ended[name], begun[name], rtol=0, atol=1e-5)
