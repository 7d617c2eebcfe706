"""Two processes train and evaluate like one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fastfcn import weights
from fastfcn.training.run import Run
from tests.helpers.tiny import NARROW, write_streets

# Batch norm sees the images of its process only, so it is frozen here: it uses its running statistics in training.
FROZEN = """
from torch import nn

nn.BatchNorm2d.train = lambda self, mode=True: nn.Module.train(self, False)

from fastfcn.cli import main

main()
"""
STEPS = ["optim.steps=3", "eval.every=3", "schedule.warmup_steps=0"]
CHANGES = [*NARROW, *STEPS, "head.dropout=0.0", "auxiliary.dropout=0.0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_streets(tmp_path_factory.mktemp("streets"))


def train(script: list[str], data: Path, out: Path, *more: str) -> Run:
    command = [sys.executable, *script, "train", "demo", *CHANGES, *more, "--data", str(data), "--out", str(out),
               "--accelerator", "cpu", "--workers", "0", "--no-report"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=300)
    return Run(out)


def losses(run: Run) -> list[list[float]]:
    return [[line[name] for name in ("main", "auxiliary", "loss")] for line in run.read_log() if "loss" in line]


# Unfrozen after two of the three steps, when DistributedDataParallel has long been set up.
UNFROZEN = ["optim.clip_norm=1.0", 'freeze={kind="stages", stages=2, norm_eval="frozen", unfreeze_step=2}']


@pytest.mark.parametrize("changes", [["loss.mean_over=all"], ["loss.mean_over=labeled"], UNFROZEN])
def test_two_processes_train_like_one(data, tmp_path, changes):
    script = tmp_path / "frozen.py"
    script.write_text(FROZEN)
    one = train([str(script)], data, tmp_path / "one", *changes)
    two = train([str(script)], data, tmp_path / "two", *changes, "--devices", "2")
    torch.testing.assert_close(torch.tensor(losses(two)), torch.tensor(losses(one)), rtol=1e-4, atol=1e-5)
    first, second = weights.read(one.last).tensors, weights.read(two.last).tensors
    moved = [name for name in first if "running" not in name and not name.endswith("num_batches_tracked")]
    for name in moved:
        torch.testing.assert_close(second[name], first[name], rtol=1e-3, atol=1e-5)


def test_validation_by_two_processes_scores_the_weights_that_are_saved(data, tmp_path):
    run = train(["-m", "fastfcn"], data, tmp_path / "run", "--devices", "2")
    out = tmp_path / "scores.json"
    command = [sys.executable, "-m", "fastfcn", "evaluate", str(run.last), "--data", str(data), "--json", str(out),
               "--accelerator", "cpu", "--workers", "0"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    logged = [line["validation"] for line in run.read_log() if "validation" in line][-1]
    assert json.loads(out.read_text()) == logged


def test_checkpointed_activations_change_nothing(data, tmp_path):
    plain = train(["-m", "fastfcn"], data, tmp_path / "plain", "head.dropout=0.5", "--devices", "2")
    more = ("head.dropout=0.5", "--devices", "2", "--checkpoint-activations")
    lean = train(["-m", "fastfcn"], data, tmp_path / "lean", *more)
    assert losses(lean) == losses(plain)
    first, second = weights.read(plain.last).tensors, weights.read(lean.last).tensors
    assert all(torch.equal(second[name], value) for name, value in first.items())
