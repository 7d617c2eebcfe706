"""Averaged weights (`optim.ema`) and clipped gradients (`optim.clip_norm`): arithmetic and use in a run."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from fastfcn import weights
from fastfcn.training import train as train_module
from fastfcn.training.ema import MovingAverage
from fastfcn.training.run import Run
from fastfcn.training.train import train
from fastfcn.utils.machine import Machine
from fastfcn.weights.file import read_tensors
from tests.helpers.tiny import tiny_recipe, write_streets

MACHINE = Machine("cpu", workers=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_streets(tmp_path_factory.mktemp("streets"))


def test_the_average_follows_its_formula():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = MovingAverage(network, decay=0.5)
    expected: dict[str, torch.Tensor] = {}
    for update in range(5):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        network(torch.randn(4, 3))  # moves the running statistics
        average.update_parameters(network)
        share = min(0.5, (1 + update) / (10 + update))
        for name, value in network.state_dict().items():
            blend = update and value.is_floating_point()
            expected[name] = share * expected[name] + (1 - share) * value if blend else value.clone()
    assert expected["1.num_batches_tracked"] == 5
    for name, value in average.module.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    assert not torch.equal(average.module[0].weight, network[0].weight)


def test_the_average_equals_that_of_torch():
    """Bit for bit, with the same names in checkpoints; but the number of updates is never on a GPU."""

    def move(old, new, updates):
        share = 1 - min(0.9, (1 + int(updates)) / (10 + int(updates)))
        for average, current in zip(old, new, strict=True):
            average.lerp_(current, share) if average.is_floating_point() else average.copy_(current)

    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(33, 20), nn.BatchNorm1d(20))
    average = MovingAverage(network, decay=0.9)
    expected = AveragedModel(network, multi_avg_fn=torch.no_grad()(move), use_buffers=True)
    for _ in range(4):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        network(torch.randn(4, 33))
        average.update_parameters(network)
        expected.update_parameters(network)
    assert average.state_dict().keys() == expected.state_dict().keys()
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in average.state_dict().items())
    assert average.n_averaged.device.type == "cpu"


def checkpoint(run: Path) -> dict[str, torch.Tensor]:
    return read_tensors(Run(run).checkpoint, "fastfcn-checkpoint-1")[1]


def test_a_run_keeps_and_scores_the_average(data, tmp_path):
    train(tiny_recipe("optim.ema=0.9"), data, tmp_path, MACHINE)
    saved, kept = weights.read(tmp_path / "last.safetensors").tensors, checkpoint(tmp_path)
    name = "head.classifier.weight"
    assert torch.equal(saved[name], kept[f"average.module.{name}"])
    assert not torch.equal(saved[name], kept[f"model.{name}"])


def test_a_resumed_run_keeps_its_average(data, tmp_path, monkeypatch):
    used = tiny_recipe("optim.ema=0.9", "optim.clip_norm=1.0", "eval.every=2")
    train(used, data, tmp_path / "whole", MACHINE)
    step = train_module.train_step

    def break_down(*arguments):
        if arguments[4] == 3:
            raise InterruptedError
        return step(*arguments)

    monkeypatch.setattr(train_module, "train_step", break_down)
    with pytest.raises(InterruptedError):
        train(used, data, tmp_path / "cut", MACHINE)
    monkeypatch.undo()
    train(used, data, tmp_path / "cut", MACHINE, resume=True)
    uncut, cut = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "cut")
    assert uncut.keys() == cut.keys()
    assert all(torch.equal(uncut[name], cut[name]) for name in uncut)


def test_no_update_is_longer_than_the_clipped_gradient(data, tmp_path):
    changes = ("optim.steps=1", "optim.weight_decay=0.0", "schedule.warmup_steps=0", "optim.head_lr_factor=1.0")
    used = tiny_recipe(*changes, "optim.clip_norm=0.01")
    train(tiny_recipe(*changes, "optim.lr=1e-12"), data, tmp_path / "start", MACHINE)
    train(used, data, tmp_path / "clipped", MACHINE)
    logged = Run(tmp_path / "clipped").read_log()[0]
    assert logged["gradient_norm"] > 0.1
    first, second = (weights.read(tmp_path / name / "last.safetensors").tensors for name in ("start", "clipped"))
    moved = [second[name] - first[name] for name in first if not name.endswith(("running_mean", "running_var"))]
    length = torch.cat([tensor.float().flatten() for tensor in moved]).norm().item()
    assert length == pytest.approx(used.optim.lr * 0.01, rel=1e-2)
