"""Several trainings of one recipe: folds and seeds, the summary, and resuming."""

import json
import math
from pathlib import Path

import pytest

from fastfcn.errors import UserError
from fastfcn.training import repeats as module
from fastfcn.training.repeats import Statistics, repeats, train_repeats
from fastfcn.training.run import Run
from fastfcn.training.train import train
from fastfcn.utils.machine import Machine
from tests.helpers.command import fastfcn
from tests.helpers.tiny import NARROW, tiny_recipe, write_streets

SHORT = ("optim.steps=2", "eval.every=1", "auxiliary.loss_weight=0.1")
CPU = Machine("cpu", workers=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_streets(tmp_path_factory.mktemp("streets"))


def test_plan():
    planned = repeats(tiny_recipe(), folds=3, seeds=2)
    assert [repeat.name for repeat in planned][:3] == ["fold-1-of-3-seed-0", "fold-1-of-3-seed-1", "fold-2-of-3-seed-0"]
    splits = {(repeat.recipe.data.train_split, repeat.recipe.data.val_split) for repeat in planned}
    assert splits == {(f"train+val not fold {n}/3", f"train+val fold {n}/3") for n in (1, 2, 3)}
    assert [repeat.recipe.seed for repeat in planned] == [0, 1] * 3
    only_seeds = repeats(tiny_recipe("seed=5"), seeds=2)
    assert [(repeat.name, repeat.recipe.seed) for repeat in only_seeds] == [("seed-5", 5), ("seed-6", 6)]
    assert only_seeds[0].recipe.data == tiny_recipe().data


def test_a_test_split_is_never_part_of_the_folds():
    recipe = tiny_recipe('data.train_split="train+val"', 'data.val_split="test"')
    assert repeats(recipe, folds=2)[0].recipe.data.val_split == "train+val fold 1/2"


def test_seeds_equal_single_trainings_and_the_summary_is_theirs(data: Path, tmp_path: Path):
    result = train_repeats(repeats(tiny_recipe(*SHORT), seeds=2), data, tmp_path / "all", CPU)
    assert result.stopped is None
    single = train(tiny_recipe(*SHORT, "seed=1"), data, tmp_path / "single", CPU)
    assert (tmp_path / "all" / "seed-1" / "weights.safetensors").stat().st_size == single.weights.stat().st_size
    assert [line.get("loss") for line in result.runs["seed-1"].log()] == [line.get("loss") for line in single.log()]
    mious = [run.miou for run in result.runs.values()]
    assert result.miou.mean == pytest.approx(sum(mious) / 2, abs=1e-3)
    assert result.miou.deviation == pytest.approx(abs(mious[0] - mious[1]) / math.sqrt(2), abs=1e-3)
    summary = json.loads((tmp_path / "all" / "summary.json").read_text())
    assert summary["miou"]["count"] == 2
    assert summary["runs"]["seed-0"]["miou"] == pytest.approx(mious[0], abs=1e-3)
    assert summary["classes"].keys() == result.classes.keys()


def test_stopped_folds_are_resumed(data: Path, tmp_path: Path, monkeypatch):
    planned = repeats(tiny_recipe(*SHORT), folds=2)
    uncut = train_repeats(planned, data, tmp_path / "whole", CPU)
    calls = []

    def fail_second(recipe, *arguments):
        calls.append(recipe.data.val_split)
        if len(calls) == 2:
            raise UserError("no space")
        return train(recipe, *arguments)

    monkeypatch.setattr(module, "train", fail_second)
    with pytest.raises(UserError, match="no space"):
        train_repeats(planned, data, tmp_path / "stopped", CPU)
    assert list(json.loads((tmp_path / "stopped/summary.json").read_text())["runs"]) == ["fold-1-of-2"]
    before = Run(tmp_path / "stopped/fold-1-of-2").log.read_bytes()
    resumed = train_repeats(planned, data, tmp_path / "stopped", CPU, resume=True)
    assert Run(tmp_path / "stopped/fold-1-of-2").log.read_bytes() == before
    assert resumed.scores == uncut.scores


def test_values_without_pixels_do_not_count():
    assert Statistics.of([10.0, None, 20.0]) == Statistics(15.0, pytest.approx(7.0711, abs=1e-4), 2)
    assert Statistics.of([None]).count == 0
    assert math.isnan(Statistics.of([10.0]).deviation)


def test_one_device_only(data: Path, tmp_path: Path):
    with pytest.raises(UserError, match="Folds and seeds run on one device"):
        train_repeats(repeats(tiny_recipe(), seeds=2), data, tmp_path, Machine("cpu", devices=2))


def test_command(data: Path, tmp_path: Path):
    result = fastfcn(
        "train", "demo", *NARROW, *SHORT, "--data", data, "--out", tmp_path, "--folds", 2, "--accelerator", "cpu",
        "--workers", 0, "--no-report",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "fold 2" in result.out
    assert "±" in result.out
    assert "Training 2 of 2" in result.err
