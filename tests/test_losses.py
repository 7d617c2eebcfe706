"""Losses against PyTorch's and against their formulas, and their sum in a training step."""

import copy

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from fastfcn import build
from fastfcn.losses import ExtraLoss, LossTerms, se_loss, segmentation_loss
from fastfcn.ops.cross_entropy import summed_cross_entropy
from fastfcn.training.train import train_step
from fastfcn.utils.sizes import IGNORE_INDEX
from tests.helpers.tiny import tiny_model, tiny_recipe

CLASSES = 5
TERMS = LossTerms(
    mean_over="all", align_corners=False, extras={"auxiliary": ExtraLoss("pixel", 0.4), "se": ExtraLoss("se", 0.2)}
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def labels_of(*shape: int, ignored: float = 0.3, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, shape, generator=generator)
    labels[torch.rand(shape, generator=generator) < ignored] = IGNORE_INDEX
    return labels.to(torch.uint8)


def resized(logits: Tensor, size: torch.Size, align_corners: bool = False) -> Tensor:
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=align_corners)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(9, 14), (33, 61), (4, 7)])
def test_cross_entropy_is_summed(size: tuple[int, int], align_corners: bool):
    logits, labels = random(3, CLASSES, 4, 7).requires_grad_(), labels_of(3, *size)
    full = resized(logits, labels.shape[1:], align_corners)
    expected = F.cross_entropy(full, labels.long(), ignore_index=IGNORE_INDEX, reduction="sum")
    actual = summed_cross_entropy(logits, labels, align_corners, IGNORE_INDEX)
    torch.testing.assert_close(actual, expected)
    ours, plain = torch.autograd.grad(actual, logits)[0], torch.autograd.grad(expected, logits)[0]
    torch.testing.assert_close(ours, plain)


def test_cross_entropy_by_hand():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]]).reshape(1, 2, 1, 2)  # two classes, two pixels
    labels = torch.tensor([[[0, IGNORE_INDEX]]], dtype=torch.uint8)
    loss = summed_cross_entropy(logits, labels, False, IGNORE_INDEX)
    assert loss.item() == pytest.approx(0.126928, abs=1e-6)  # -log(e2 / (e2 + 1))


def test_an_image_without_labels_costs_nothing():
    logits = random(2, CLASSES, 4, 4).requires_grad_()
    labels = torch.full((2, 9, 9), IGNORE_INDEX, dtype=torch.uint8)
    loss = summed_cross_entropy(logits, labels, False, IGNORE_INDEX)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_scores_of_half_the_bits_are_summed_in_float32():
    logits, labels = random(1, CLASSES, 8, 8).bfloat16(), labels_of(1, 200, 200)
    loss = summed_cross_entropy(logits, labels, False, IGNORE_INDEX)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, summed_cross_entropy(logits.float(), labels, False, IGNORE_INDEX))


def test_se_loss_is_its_formula():
    se_logits, labels = random(3, CLASSES), labels_of(3, 6, 6)
    labels[0][labels[0] == 2] = IGNORE_INDEX
    labels[1] = IGNORE_INDEX  # an image without labels
    labels[2] = 4
    total = 0.0
    for logits, label in zip(se_logits, labels, strict=True):
        for index in range(CLASSES):
            share = logits[index].sigmoid()
            total -= (share if (label == index).any() else 1 - share).log() / CLASSES
    torch.testing.assert_close(se_loss(se_logits, labels), total)


def test_terms_are_weighted_and_summed():
    main, auxiliary, se_logits = random(2, CLASSES, 5, 6), random(2, CLASSES, 3, 3, seed=2), random(2, CLASSES)
    labels, extras = labels_of(2, 40, 48), {"auxiliary": auxiliary, "se": se_logits}
    losses = segmentation_loss(main, extras, labels, TERMS, torch.tensor(100.0), 2)
    assert list(losses) == ["main", "auxiliary", "se", "loss"]
    torch.testing.assert_close(losses["main"], summed_cross_entropy(main, labels, False, IGNORE_INDEX) / 100)
    torch.testing.assert_close(
        losses["auxiliary"], 0.4 * summed_cross_entropy(auxiliary, labels, False, IGNORE_INDEX) / 100
    )
    torch.testing.assert_close(losses["se"], 0.2 * se_loss(se_logits, labels) / 2)
    torch.testing.assert_close(losses["loss"], losses["main"] + losses["auxiliary"] + losses["se"])


def test_parts_that_are_absent_are_left_out():
    main, labels = random(2, CLASSES, 5, 6), labels_of(2, 40, 48)
    losses = segmentation_loss(main, {}, labels, TERMS, torch.tensor(10.0), 2)
    assert list(losses) == ["main", "loss"]
    silent = LossTerms("all", False, extras={"se": ExtraLoss("se", 0.0)})
    extras = {"se": random(2, CLASSES)}
    assert list(segmentation_loss(main, extras, labels, silent, torch.tensor(1.0), 2)) == ["main", "loss"]
    with pytest.raises(KeyError, match="boundary"):
        segmentation_loss(main, {"boundary": main}, labels, TERMS, torch.tensor(1.0), 2)


def test_a_batch_in_parts_gives_the_same_losses():
    main, auxiliary, se_logits = random(4, CLASSES, 5, 6), random(4, CLASSES, 3, 3, seed=2), random(4, CLASSES)
    labels = labels_of(4, 20, 30)
    labels[0, :15] = IGNORE_INDEX  # so that the parts have labeled pixels in different numbers
    pixels = (labels != IGNORE_INDEX).sum()
    full = segmentation_loss(main, {"auxiliary": auxiliary, "se": se_logits}, labels, TERMS, pixels, 4)
    for cuts in ([1, 3], [2, 2], [1, 1, 1, 1]):
        parts = [tensor.split(cuts) for tensor in (main, auxiliary, se_logits, labels)]
        losses = [
            segmentation_loss(one, {"auxiliary": two, "se": three}, label, TERMS, pixels, 4)
            for one, two, three, label in zip(*parts, strict=True)
        ]
        for name, value in full.items():
            torch.testing.assert_close(sum(loss[name] for loss in losses), value)


@pytest.mark.parametrize("mean_over", ["all", "labeled"])
def test_a_step_averages_as_the_recipe_says(mean_over: str):
    """Two parts with different numbers of ignored pixels: the mean is over all pixels, not over the two means."""
    used = tiny_recipe(f"loss.mean_over={mean_over}", "head.dropout=0.0", "auxiliary.dropout=0.0")
    fabric = Fabric(accelerator="cpu", devices=1)
    network = tiny_model("head.dropout=0.0", "auxiliary.dropout=0.0").train()
    before = copy.deepcopy(network)
    model, optimizer = fabric.setup(network, build.optimizer(used, network))
    model.mark_forward_method("forward_train")
    batches = [(random(2, 3, 64, 96, seed=i), labels_of(2, 64, 96, ignored=0.1 + 0.8 * i)) for i in range(2)]
    losses = train_step(model, optimizer, iter(batches), used, 0, fabric, parts=2)

    every = torch.cat([labels for _, labels in batches])
    pixels = every.numel() if mean_over == "all" else int((every != IGNORE_INDEX).sum())
    expected = {"main": 0.0, "auxiliary": 0.0}
    for images, labels in batches:
        logits, extras = before.forward_train(images)
        for name, weight, output in (("main", 1.0, logits), ("auxiliary", 0.4, extras["auxiliary"])):
            full = resized(output, labels.shape[1:])
            total = F.cross_entropy(full, labels.long(), ignore_index=IGNORE_INDEX, reduction="sum")
            expected[name] += weight * total / pixels
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value.detach())
    torch.testing.assert_close(losses["loss"], sum(expected.values()).detach())

    sum(expected.values()).backward()
    rate = build.learning_rate(used, 0)
    for key, old in before.named_parameters():
        stepped = old - rate * (old.grad + used.optim.weight_decay * old)
        torch.testing.assert_close(dict(network.named_parameters())[key], stepped, rtol=1e-3, atol=1e-5)
