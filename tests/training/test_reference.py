"""Training steps against the rules of mmsegmentation 1.2.2, restated here in plain formulas.

An update of the weights must follow from: cross-entropy over all pixels, including ignored ones; 0.4 of
the auxiliary and 0.2 of the SE loss; SGD with momentum and with decay of every parameter, batch norms and
biases included; the poly schedule, which reaches its least rate at the last step. benchmarks/parity/training.py
compares with mmsegmentation itself.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from fastfcn import build
from fastfcn.models.segmenter import Segmenter
from fastfcn.recipes.recipe import Recipe
from fastfcn.training.train import train_step
from fastfcn.utils.sizes import IGNORE_INDEX
from tests.helpers.tiny import tiny_model, tiny_recipe

STEPS, SCHEDULE = 3, 6
RULES = (
    'loss={kind="cross_entropy", mean_over="all"}',
    "auxiliary.dropout=0.0",
    "optim.lr=0.01",
    "optim.momentum=0.9",
    "optim.weight_decay=0.0005",
    "schedule.power=0.9",
    "schedule.min_lr=0.0001",
    'schedule.end="last_step"',
    "schedule.warmup_steps=0",
    "optim.clip_norm=0.0",
    f"optim.steps={SCHEDULE}",
)
HEADS = {
    "psp": ('head={kind="psp", width=8, pools=[1, 2, 3, 6], kernel=3, dropout=0.0, align_corners=false}',),
    "aspp": ('head={kind="aspp", width=8, dilations=[1, 2, 4], kernel=3, dropout=0.0, align_corners=false}',),
    "enc": (
        'head={kind="enc", width=8, codewords=4, kernel=3, dropout=0.0, align_corners=false, se_loss_weight=0.0}',
        "head.se_loss_weight=0.2",
    ),
}
# Each is a rule of another trainer or a mistake: the comparison must detect it.
MISTAKES = (
    'loss.mean_over="labeled"',
    "auxiliary.loss_weight=0.2",
    "head.se_loss_weight=0.1",
    "optim.weight_decay=0.0004",
    "optim.momentum=0.8",
    "schedule.min_lr=0.0",
    "optim.head_lr_factor=10.0",
    "schedule.warmup_steps=1",
    "optim.clip_norm=0.5",
    'schedule.end="after_last_step"',
    "head.dropout=0.1",
)


class Step(NamedTuple):
    """The values of one step on either side."""

    losses: dict[str, Tensor]
    gradients: dict[str, Tensor]
    state: dict[str, Tensor]


def batch(step: int, classes: int) -> tuple[Tensor, Tensor]:
    """Four images and labels of blocks, a third of them ignored; in step 1 an image has no label at all."""
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(4, 3, 64, 96, generator=generator, dtype=torch.float64)
    blocks = torch.randint(0, classes, (4, 8, 12), generator=generator)
    blocks[torch.rand(4, 8, 12, generator=generator) < 0.3] = IGNORE_INDEX
    if step == 1:
        blocks[0] = IGNORE_INDEX
    return images, blocks.repeat_interleave(8, 1).repeat_interleave(8, 2).to(torch.uint8)


def network(changes: Sequence[str]) -> Segmenter:
    """In float64, so that the two sides differ by more than rounding only if their rules differ."""
    return tiny_model(*changes).double().train()


def steps_of_train_step(used: Recipe, model: Segmenter) -> list[Step]:
    fabric = Fabric(accelerator="cpu", devices=1)
    optimizer = build.optimizer(used, model)
    gradients: dict[str, Tensor] = {}

    def note(*_: object) -> None:
        gradients.update({name: parameter.grad.clone() for name, parameter in model.named_parameters()})

    optimizer.register_step_pre_hook(note)
    wrapped, wrapped_optimizer = fabric.setup(model, optimizer)
    wrapped.mark_forward_method("forward_train")
    classes = model.head.classifier.out_channels
    done = []
    for step in range(STEPS):
        losses = train_step(wrapped, wrapped_optimizer, iter([batch(step, classes)]), used, step, fabric)
        done.append(Step(losses, dict(gradients), copy.deepcopy(model.state_dict())))
    return done


def pixel_rule(scores: Tensor, labels: Tensor) -> Tensor:
    """-sum over labeled pixels of log softmax at the label / all pixels."""
    full = F.interpolate(scores, labels.shape[1:], mode="bilinear", align_corners=False)
    counted = labels != IGNORE_INDEX
    index = labels.long().where(counted, torch.zeros(()).long())[:, None]
    return -(full.log_softmax(1).gather(1, index)[:, 0] * counted).sum() / labels.numel()


def se_rule(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy against "this image contains this class", mean over images and classes."""
    contained = torch.stack([(labels == index).flatten(1).any(1) for index in range(logits.shape[1])], 1).double()
    return -(contained * F.logsigmoid(logits) + (1 - contained) * F.logsigmoid(-logits)).mean()


def rate_rule(step: int) -> float:
    return (0.01 - 0.0001) * (1 - step / (SCHEDULE - 1)) ** 0.9 + 0.0001


def steps_by_the_rules(model: nn.Module) -> list[Step]:
    parameters = dict(model.named_parameters())
    classes = model.head.classifier.out_channels
    velocity: dict[str, Tensor] = {}
    done = []
    for step in range(STEPS):
        images, labels = batch(step, classes)
        logits, extras = model.forward_train(images)
        losses = {"main": pixel_rule(logits, labels), "auxiliary": 0.4 * pixel_rule(extras["auxiliary"], labels)}
        if "se" in extras:
            losses["se"] = 0.2 * se_rule(extras["se"], labels)
        losses["loss"] = sum(losses.values())
        gradients = dict(zip(parameters, torch.autograd.grad(losses["loss"], parameters.values()), strict=True))
        with torch.no_grad():
            for name, value in parameters.items():
                push = gradients[name] + 0.0005 * value
                velocity[name] = 0.9 * velocity[name] + push if step else push
                value -= rate_rule(step) * velocity[name]
        done.append(Step(losses, gradients, copy.deepcopy(model.state_dict())))
    return done


def compare(changes: Sequence[str], mistake: Sequence[str] = ()) -> None:
    """Train by the recipe and by the rules, from the same weights, and assert that every step is the same.

    The losses are computed in float32, so gradients differ by rounding of the seventh digit, weights by less.
    """
    actual = steps_of_train_step(tiny_recipe(*changes, *mistake), network((*changes, *mistake)))
    expected = steps_by_the_rules(network(changes))
    for ours, rules in zip(actual, expected, strict=True):
        assert ours.losses.keys() == rules.losses.keys()
        same(ours.losses, rules.losses, rtol=1e-6, atol=0)
        same(ours.gradients, rules.gradients, rtol=1e-4, atol=1e-6)
        same(ours.state, rules.state, rtol=1e-6, atol=1e-7)


def same(actual: dict[str, Tensor], expected: dict[str, Tensor], rtol: float, atol: float) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(
            actual[name].double(),
            value.detach().double(),
            rtol=rtol,
            atol=atol,
            msg=lambda text, at=name: f"{at}: {text}",
        )


@pytest.mark.parametrize("head", HEADS)
def test_three_steps_follow_the_rules(head: str):
    compare((*RULES, *HEADS[head]))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_comparison_notices(mistake: str):
    with pytest.raises(AssertionError):
        compare((*RULES, *HEADS["enc"]), [mistake])


def test_the_comparison_notices_norms_without_decay(monkeypatch: pytest.MonkeyPatch):
    create = build.optimizer

    def partly(used: Recipe, model: Segmenter) -> torch.optim.SGD:
        """SGD without decay for parameters of one dimension, as in other trainers."""
        optimizer = create(used, model)
        for group in list(optimizer.param_groups):
            spared = [parameter for parameter in group["params"] if parameter.ndim == 1]
            group["params"] = [parameter for parameter in group["params"] if parameter.ndim > 1]
            optimizer.add_param_group({**group, "params": spared, "weight_decay": 0.0})
        return optimizer

    monkeypatch.setattr(build, "optimizer", partly)
    with pytest.raises(AssertionError):
        compare((*RULES, *HEADS["enc"]))
