"""A small demo of two steps writes all its files; .ci/run runs the full demo."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from fastfcn import recipes
from fastfcn.demo.demo import ABOUT, demo
from fastfcn.errors import OutputError
from fastfcn.evaluation.evaluate import evaluate
from fastfcn.utils.console import SafeConsole
from fastfcn.utils.machine import Machine
from tests.helpers.tiny import NARROW

CHANGES = [*NARROW, "optim.steps=2", "eval.every=2"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, float]:
    """Folder, output and mIoU of a demo of two steps."""
    folder, output = tmp_path_factory.mktemp("demo") / "out", io.StringIO()
    miou = demo(folder, SafeConsole(file=output, width=200), CHANGES, train_count=6, val_count=3)
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


def test_a_folder_with_other_files_is_not_touched(tmp_path):
    (tmp_path / ABOUT).write_text("about my holidays")
    (tmp_path / "data").mkdir()
    with pytest.raises(OutputError, match="not the demo's"):
        demo(tmp_path, SafeConsole(file=io.StringIO()), CHANGES, train_count=1, val_count=1)
    assert (tmp_path / "data").is_dir()
    assert (tmp_path / ABOUT).read_text() == "about my holidays"
