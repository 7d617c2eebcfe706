"""Training: exact resume with one and two processes after any kind of stop; schedule; accumulation."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastfcn import build, recipes, weights
from fastfcn.errors import DivergedError, OutputError, RecipeError, UserError
from fastfcn.models.heads import HeadOutput
from fastfcn.models.segmenter import Segmenter
from fastfcn.training.run import RESUME_CODE, Run
from fastfcn.training.train import train
from fastfcn.utils.machine import Machine
from tests.helpers.tiny import NARROW, tiny_recipe, write_streets

STEPS = 8
CHANGES = ["optim.steps=8", "eval.every=3"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_streets(tmp_path_factory.mktemp("streets"))


def command(data: Path, out: Path, *more: str) -> list[str]:
    changes = [*NARROW, *CHANGES]
    return [sys.executable, "-m", "fastfcn", "train", "demo", *changes, "--data", str(data), "--out", str(out),
            "--accelerator", "cpu", "--workers", "0", "--no-report", *more]  # fmt: skip


def go(arguments: list[str], check: bool = True) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(arguments, env=environment, check=check, capture_output=True, text=True, timeout=300)


def losses(out: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in Run(out).read_log() if "loss" in line]


def same_weights(one: Path, other: Path) -> bool:
    first, second = weights.read(one).tensors, weights.read(other).tensors
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    go(command(data, out))
    return out


def test_a_run_logs_every_step_and_leaves_its_files(uninterrupted):
    assert [step for step, _ in losses(uninterrupted)] == list(range(1, STEPS + 1))
    run = Run(uninterrupted)
    validated = [line["step"] for line in run.read_log() if "validation" in line]
    assert validated == [3, 6, 8]
    for path in (run.recipe, run.environment, run.checkpoint, run.best, run.last):
        assert path.is_file(), path
    assert recipes.load(run.recipe) == tiny_recipe(*CHANGES)
    assert "was 200" in run.recipe.read_text() or "# was" in run.recipe.read_text()


def test_killed_and_resumed_equals_uninterrupted(data, tmp_path, uninterrupted):
    out = tmp_path / "killed"
    with subprocess.Popen(command(data, out), env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL) as process:  # fmt: skip
        wait_for_step(out, 4)
        process.kill()
    assert len(losses(out)) < STEPS
    go(command(data, out, "--resume"))
    assert losses(out) == losses(uninterrupted)
    assert same_weights(out / "last.safetensors", uninterrupted / "last.safetensors")
    assert same_weights(out / "weights.safetensors", uninterrupted / "weights.safetensors")


def test_stopped_by_signal_saves_the_step_and_resumes(data, tmp_path, uninterrupted):
    out = tmp_path / "stopped"
    with subprocess.Popen(command(data, out), env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True) as process:  # fmt: skip
        wait_for_step(out, 1)
        process.send_signal(signal.SIGTERM)
        printed = process.communicate(timeout=120)[0]
    if process.returncode:  # a fast machine may finish before the signal arrives
        assert process.returncode == RESUME_CODE
        assert "--resume" in printed
    go(command(data, out, "--resume"))
    assert losses(out) == losses(uninterrupted)
    assert same_weights(out / "last.safetensors", uninterrupted / "last.safetensors")


def test_killed_before_the_first_checkpoint_starts_over(data, tmp_path, uninterrupted):
    out = tmp_path / "early"
    Run(out).start(tiny_recipe(*CHANGES))
    Run(out).append([{"step": 1, "loss": 1e9}])
    go(command(data, out, "--resume"))
    assert losses(out) == losses(uninterrupted)


def wait_for_step(out: Path, step: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if any(line["step"] >= step for line in Run(out).read_log()):
            return
        time.sleep(0.01)
    raise AssertionError(f"no step {step} in {out}")


def test_two_processes_resume_exactly_after_any_kind_of_stop(data, tmp_path):
    """The same command starts the run and continues it; a scheduler's signal to one process ends all with code 75."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    resumed = command(data, parts, "--resume")[3:]
    jobs = [
        {"arguments": command(data, whole)[3:]},
        {"arguments": resumed, "step": 1, "signal": "SIGUSR1"},
        {"arguments": resumed, "step": 4, "signal": "SIGKILL"},
        {"arguments": resumed},
    ]
    process = subprocess.run([sys.executable, "-m", "tests.helpers.forked_job"], input=json.dumps(jobs), text=True,
                             env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, timeout=300)  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout.splitlines()[-1]) == [[0, 0], [75, 75], [2, -9], [0, 0]], process.stderr
    assert losses(parts) == losses(whole)
    assert same_weights(parts / "last.safetensors", whole / "last.safetensors")
    printed = process.stdout + process.stderr
    assert printed.count(f"There is no run in {parts} yet") == 1
    assert re.search("Stopped after step [23] of 8", printed)  # at the latest when step 3 is validated
    assert "Grad strides" not in printed


def test_all_processes_report_wrong_masks_once(data, tmp_path):
    """Each process reads half of the masks; the error names all of them, and is printed once."""
    wrong = tmp_path / "streets"
    shutil.copytree(data, wrong)
    masks = sorted((wrong / "labels/train").iterdir())[:2]
    for path in masks:
        Image.fromarray(np.full((64, 96), 77, np.uint8)).save(path)
    arguments = command(wrong, tmp_path / "run")[3:]
    process = subprocess.run([sys.executable, "-m", "tests.helpers.forked_job"], text=True, capture_output=True,
                             input=json.dumps([{"arguments": arguments}]), timeout=300)  # fmt: skip
    assert json.loads(process.stdout.splitlines()[-1]) == [[2, 2]], process.stderr
    printed = process.stderr.replace("\n", " ")
    assert all(printed.count(f"{path}: value 77 in 6144 pixels") == 1 for path in masks)
    assert not (tmp_path / "run/labels.json").exists()


def test_evaluation_by_two_processes_counts_no_image_twice(data, tmp_path, uninterrupted):
    results = []
    for devices in ("1", "2"):
        out = tmp_path / f"{devices}.json"
        weights_file = str(uninterrupted / "weights.safetensors")
        go([sys.executable, "-m", "fastfcn", "evaluate", weights_file, "--data", str(data),
            "--json", str(out), "--devices", devices, "--accelerator", "cpu", "--workers", "0"])  # fmt: skip
        results.append(json.loads(out.read_text()))
    assert results[0] == results[1]
    assert sum(class_["pixels"] for class_ in results[0]["classes"].values()) == 3 * 64 * 96


def test_accumulated_parts_see_the_same_images(data, tmp_path):
    """Only batch norm depends on the split into parts; the first loss is still close."""
    train(tiny_recipe("optim.steps=1"), data, tmp_path / "whole", Machine("cpu", workers=0))
    train(tiny_recipe("optim.steps=1"), data, tmp_path / "parts", Machine("cpu", workers=0, accumulate=2))
    full, parts = losses(tmp_path / "whole")[0][1], losses(tmp_path / "parts")[0][1]
    assert parts == pytest.approx(full, rel=0.1)
    assert parts != 0


def test_schedule_is_mmengines_poly():
    used = recipes.load("fastfcn_r50_psp_cityscapes_80k_b8")
    for step in (0, 1, 40_000, 79_998, 79_999):
        expected = (0.01 - 1e-4) * (1 - step / 79_999) ** 0.9 + 1e-4
        assert build.learning_rate(used, step) == pytest.approx(expected, rel=1e-12)
    assert build.learning_rate(used, 79_999) == pytest.approx(1e-4)


def test_warm_up_rises_to_the_schedule():
    used = tiny_recipe("schedule.warmup_steps=3", "optim.steps=100")
    plain = tiny_recipe("schedule.warmup_steps=0", "optim.steps=100")
    shares = [build.learning_rate(used, step) / build.learning_rate(plain, step) for step in range(5)]
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_heads_get_their_factor_and_all_parameters_decay():
    used = tiny_recipe("optim.head_lr_factor=10.0")
    model = build.create(used)
    inside, outside = build.optimizer(used, model).param_groups
    assert inside["weight_decay"] == outside["weight_decay"] == used.optim.weight_decay
    assert build.learning_rate(used, 0, outside["factor"]) == pytest.approx(
        10 * build.learning_rate(used, 0, inside["factor"])
    )
    assert len(inside["params"]) + len(outside["params"]) == len(list(model.parameters()))


def test_a_folder_with_a_run_is_not_overwritten(data, uninterrupted):
    before = (uninterrupted / "log.jsonl").read_bytes()
    with pytest.raises(OutputError, match="already contains a run"):
        train(tiny_recipe(*CHANGES), data, uninterrupted, Machine("cpu", workers=0))
    assert (uninterrupted / "log.jsonl").read_bytes() == before


def test_resuming_with_another_recipe_is_refused(data, uninterrupted):
    with pytest.raises(RecipeError, match=r"optim\.lr"):
        train(tiny_recipe(*CHANGES, "optim.lr=0.5"), data, uninterrupted, Machine("cpu", workers=0), resume=True)


def test_a_batch_that_cannot_be_shared_is_refused(data, tmp_path):
    with pytest.raises(UserError, match="cannot be divided evenly"):
        train(tiny_recipe(), data, tmp_path / "odd", Machine("cpu", workers=0, accumulate=3))


def test_a_run_that_diverges_stops_and_says_so(data, tmp_path):
    with pytest.raises(DivergedError, match="diverged"):
        train(
            tiny_recipe("optim.lr=1e30", "schedule.warmup_steps=0"), data, tmp_path / "run", Machine("cpu", workers=0)
        )
    assert not Run(tmp_path / "run").best.exists()


@pytest.mark.parametrize(("precision", "expected"), [("32-true", torch.float32), ("bf16", torch.bfloat16)])
def test_the_precision_asked_for_reaches_the_network(data, tmp_path, monkeypatch, precision, expected):
    seen = set()
    plain = Segmenter.forward_train

    def noted(self: Segmenter, images: torch.Tensor) -> HeadOutput:
        output = plain(self, images)
        seen.add(output.logits.dtype)
        return output

    monkeypatch.setattr(Segmenter, "forward_train", noted)
    train(tiny_recipe("optim.steps=1"), data, tmp_path / "run", Machine("cpu", workers=0, precision=precision))
    assert seen == {expected}


def test_a_batch_of_one_image_is_refused(data, tmp_path):
    with pytest.raises(UserError, match="one image"):
        train(tiny_recipe("optim.batch=1"), data, tmp_path / "one", Machine("cpu", workers=0))


def test_tensorboard_files_are_written(data, tmp_path):
    pytest.importorskip("tensorboard")
    train(tiny_recipe("optim.steps=1"), data, tmp_path / "run", Machine("cpu", workers=0), logs=["tensorboard"])
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
