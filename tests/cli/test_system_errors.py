"""Paths that may not be entered, in every command; long names and loops; results are written before they are shown."""

import builtins
import errno
import io
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.command import fastfcn
from tests.helpers.tiny import NARROW, save_picture, tiny_weights, write_streets

TINY = " ".join(shlex.quote(change) for change in NARROW) + " --accelerator cpu --workers 0"
COMMANDS = {
    "check": "check {bad}",
    "check, fixed copy": "check streets --fix {bad}",
    "check, known": "check {bad} --dataset streets",
    "check, description": "check streets --dataset {bad}.toml",
    "import": "import {bad} --out imported",
    "init": "init {bad} --pretrained none",
    "init, output": "init streets --pretrained none --out {bad}",
    "init, pretrained": "init streets --pretrained {bad}",
    "recipe": "recipe {bad}.toml",
    "train, recipe": "train {bad}.toml --data streets --out run",
    "train, data": "train demo {tiny} --data {bad} --out run",
    "train, description": "train demo {tiny} data.dataset={bad}.toml --data streets --out run",
    "train, start": "train demo {tiny} load_from={bad} --data streets --out run",
    "train, output": "train demo {tiny} --data streets --out {bad}",
    "evaluate": "evaluate {bad}.safetensors --data streets",
    "evaluate, data": "evaluate w.safetensors --data {bad} --workers 0",
    "evaluate, scores": "evaluate w.safetensors --data streets --workers 0 --json {bad}/scores.json",
    "predict": "predict {bad}.safetensors a.png --out out",
    "predict, exported": "predict {bad}.onnx a.png --out out",
    "predict, image": "predict w.safetensors {bad}.png --out out",
    "predict, folder": "predict w.safetensors {bad} --out out",
    "predict, output": "predict w.safetensors a.png --out {bad}",
    "info": "info {bad}.safetensors",
    "info, exported": "info {bad}.onnx",
    "report": "report {bad}",
    "convert": "convert {bad}.pth --recipe demo --out c.safetensors",
    "bench": "bench {bad}.safetensors",
    "bench, scores": "bench demo --json {bad}/b.json",
    "profile": "profile {bad}.toml",
    "export": "export {bad}.safetensors --format onnx --out m.onnx",
    "serve": "serve {bad}.safetensors",
    "push": "push {bad}.safetensors me/streets --dry-run card",
    "demo": "demo --out {bad}",
    "reproduce": "reproduce fastfcn_r50_psp_cityscapes_80k_b8 --data {bad} --checkpoint {bad}.pth",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("errors")
    write_streets(folder / "streets", 2, 2)
    tiny_weights(folder / "w.safetensors")
    save_picture(folder / "a.png")
    (folder / "locked").mkdir()
    (folder / "file").touch()
    return folder


def refuse_access(monkeypatch: pytest.MonkeyPatch, locked: Path) -> None:
    """Make the system refuse all that is below `locked`, because tests may run as root, who may enter every folder."""

    def guarded(call: Callable) -> Callable:
        def run(path: object = ".", *arguments: object, **options: object) -> object:
            if isinstance(path, str | os.PathLike) and locked in Path(os.path.abspath(path)).parents:  # noqa: PTH100
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return call(path, *arguments, **options)

        return run

    for name in ("stat", "lstat", "scandir", "listdir", "mkdir", "open"):
        monkeypatch.setattr(os, name, guarded(getattr(os, name)))
    for module in (io, builtins):
        monkeypatch.setattr(module, "open", guarded(open))


@pytest.mark.parametrize("command", COMMANDS)
def test_paths_that_may_not_be_entered(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    refuse_access(monkeypatch, folder / "locked")
    done = fastfcn(*shlex.split(COMMANDS[command].format(bad="locked/x", tiny=TINY)))
    assert done.code in (1, 2), done
    assert "locked/x" in done.err.replace("\n", ""), done
    assert done.err.count("Error") == 1 or "ermission denied" in done.err, done


@pytest.mark.parametrize("bad", ["x" * 300, "file/x", "loop/x"])
@pytest.mark.parametrize("command", ["check", "init", "predict", "predict, image", "predict, output", "info", "report"])
def test_paths_that_no_file_can_have(command: str, bad: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Too long, below a file, or below a link to itself."""
    monkeypatch.chdir(folder)
    if not Path("loop").is_symlink():
        Path("loop").symlink_to("loop")
    done = fastfcn(*shlex.split(COMMANDS[command].format(bad=bad)))
    assert done.code == 2, done
    assert done.err.count("Error: ") == 1, done
    assert bad.partition("/")[0] in done.err, done


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_the_output(folder: Path):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fastfcn", "check", folder / "streets"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "Cannot write: no space left on device" in done.stderr


def test_a_current_folder_that_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_streets(tmp_path / "streets", 2, 1)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    done = fastfcn("check", "../streets")
    assert done.code == 2
    assert "The current folder does not exist any more" in done.err


MEASURED = pytest.mark.parametrize(
    ("arguments", "work", "table"),
    [
        ("bench demo", "bench.bench.bench", "bench.bench_table"),
        ("profile demo", "bench.profile.profile", "profile.stage_table"),
        ("profile --budget 20ms", "bench.profile.within_budget", "profile.budget_table"),
        ("evaluate w.safetensors --data .", "evaluation.evaluate.evaluate", "scores.score_table"),
    ],
)


class Measured(dict):
    """A result of any of the commands."""

    def as_json(self) -> dict:
        return self


@MEASURED
def test_results_are_written_before_they_are_shown(
    arguments: str, work: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOMEM, "the terminal is gone")

    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.safetensors").touch()
    monkeypatch.setattr(f"fastfcn.{work}", lambda *arguments: Measured(result=7))
    monkeypatch.setattr(f"fastfcn.cli.tables.{table}", fail)
    with pytest.raises(OSError, match="the terminal is gone"):
        fastfcn(*arguments.split(), "--json", tmp_path / "r.json")
    assert '"result": 7' in (tmp_path / "r.json").read_text()


@MEASURED
def test_results_that_cannot_be_written_are_shown(
    arguments: str, work: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.safetensors").touch()
    monkeypatch.setattr(f"fastfcn.{work}", lambda *arguments: Measured(result=7))
    monkeypatch.setattr(f"fastfcn.cli.tables.{table}", lambda *arguments: "the table")
    (tmp_path / "r.json").mkdir()
    done = fastfcn(*arguments.split(), "--json", tmp_path / "r.json")
    assert done.code == 2
    assert "the table" in done.out
    assert "r.json" in done.err
