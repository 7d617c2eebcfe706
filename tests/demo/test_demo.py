"""A small demo of two steps writes all its files; .ci/run runs the full demo."""

import io
import json
import shlex
from pathlib import Path

import pytest
from PIL import Image

from fastfcn import recipes
from fastfcn.demo import demo as demo_module
from fastfcn.demo.demo import ABOUT, demo, steps_within
from fastfcn.errors import OutputError
from fastfcn.evaluation.evaluate import evaluate
from fastfcn.training import train as train_module
from fastfcn.utils.console import SafeConsole
from fastfcn.utils.machine import Machine
from tests.helpers.command import fastfcn
from tests.helpers.tiny import NARROW

CHANGES = [*NARROW, "optim.steps=2", "eval.every=2"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, float]:
    """Folder, output and mIoU of a demo of two steps."""
    folder, output = tmp_path_factory.mktemp("demo") / "out", io.StringIO()
    miou = demo(folder, SafeConsole(file=output, width=200), CHANGES, train_count=6, val_count=3)
    assert miou is not None
    return folder, output.getvalue(), miou


def test_the_demo_writes_dataset_weights_log_and_sheet(ran):
    folder, _, _ = ran
    assert len(list((folder / "data" / "images" / "train").glob("*.png"))) == 6
    assert len(list((folder / "data" / "labels" / "val").glob("*.png"))) == 3
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if "loss" in line] == [1, 2]
    for name in ("weights.safetensors", "recipe.toml", ABOUT):
        assert (folder / name).stat().st_size > 0
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.width > 1100
        assert sheet.height > 3 * 250


def test_the_demos_score_is_that_of_evaluate_and_the_last_score_it_prints(ran):
    folder, output, miou = ran
    result = evaluate(folder / "weights.safetensors", folder / "data", Machine(accelerator="cpu"))
    assert result.split == "val"
    assert miou == pytest.approx(result.miou / 100)
    last = [line for line in output.splitlines() if "mIoU" in line][-1]
    assert last == f"mIoU {miou:.2f}"


def test_every_command_that_the_demo_names_exists(ran):
    from fastfcn.cli import app

    known = {command.callback.__name__ for command in app.registered_commands if command.callback}
    words = [line.split() for line in ran[1].splitlines() if line.startswith("    fastfcn ")]
    assert {line[1] for line in words} >= {"predict", "train"}
    assert {line[1] for line in words} <= known
    assert all(recipes.load(line[2]) for line in words if line[1] == "train")


def test_a_second_demo_replaces_the_first_and_keeps_other_files(ran):
    folder, _, miou = ran
    (folder / "notes.md").write_text("mine")
    (folder / "data" / "images" / "train" / "9999.png").write_bytes(b"left over")
    output = io.StringIO()
    again = demo(folder, SafeConsole(file=output, width=200), CHANGES, train_count=6, val_count=3)
    assert "Removing the files of an earlier demo" in output.getvalue()
    assert again == miou
    assert (folder / "notes.md").read_text() == "mine"
    assert not (folder / "data" / "images" / "train" / "9999.png").exists()


def test_slow_machines_train_fewer_steps_and_say_so(tmp_path, monkeypatch):
    """The budget counts from the start; warmup and validations shrink with the steps."""
    monkeypatch.setattr(demo_module, "_step_seconds", lambda *_: 40.0)
    output = io.StringIO()
    monkeypatch.setattr(demo_module, "MIN_STEPS", 3)
    changes = [change for change in NARROW if not change.startswith("optim.steps=")]
    miou = demo(tmp_path / "out", SafeConsole(file=output, width=300), changes, 8, 3, minutes=3)
    assert miou is not None
    assert "A step takes 40 s, so 3 of 600 steps are trained to stay within about 3 minutes" in output.getvalue()
    recipe = recipes.load(tmp_path / "out/recipe.toml")
    assert (recipe.steps, recipe.eval.every, recipe.schedule.warmup_steps) == (3, 1, 1)


@pytest.mark.parametrize(
    ("remaining", "seconds", "steps"), [(180, 0.1, 600), (180, 0.5, 252), (60, 1, 42), (60, 9, 20), (-5, 1, 20)]
)
def test_steps_that_fit_into_the_time(remaining, seconds, steps):
    assert steps_within(remaining, seconds, 600) == steps


def test_the_speed_is_measured_in_a_folder_that_is_removed(tmp_path):
    recipe = recipes.load("demo", NARROW)
    assert 0 < demo_module._step_seconds(recipe, tmp_path / "data", Machine(accelerator="cpu", workers=0)) < 60
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_demo_says_how_to_continue_and_that_works(tmp_path, monkeypatch):
    folder, output = tmp_path / "my demo", io.StringIO()
    changes = [*NARROW, "optim.steps=4", "eval.every=2"]

    class StopAtOnce(train_module.StopRequest):
        def requested(self, fabric) -> bool:
            return True

    with monkeypatch.context() as patched:
        patched.setattr(train_module, "StopRequest", StopAtOnce)
        assert demo(folder, SafeConsole(file=output, width=300), changes, train_count=6, val_count=3) is None
    stopped, how = output.getvalue().splitlines()[-2:]
    assert stopped.startswith("Stopped after step ")
    words = shlex.split(how)
    assert words[:2] == ["fastfcn", "train"]
    done = fastfcn(*words[1:], "--workers", "0", "--no-report")
    assert done.code == 0, done.err
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if "validation" in line][-1] == 4


def test_a_folder_with_other_files_is_not_touched(tmp_path):
    (tmp_path / ABOUT).write_text("about my holidays")
    (tmp_path / "data").mkdir()
    with pytest.raises(OutputError, match="not the demo's"):
        demo(tmp_path, SafeConsole(file=io.StringIO()), CHANGES, train_count=1, val_count=1)
    assert (tmp_path / "data").is_dir()
    assert (tmp_path / ABOUT).read_text() == "about my holidays"
