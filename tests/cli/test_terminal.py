"""Commands with awkward names, encodings and narrow terminals: nothing is lost, results are written first."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastfcn import build, weights
from fastfcn.cli.tables.scores import score_table
from fastfcn.data.description import SegmentationClass
from fastfcn.evaluation.scores import EvaluationResult
from fastfcn.metrics import Scores
from fastfcn.utils.console import SafeConsole
from tests.helpers.command import Finished, fastfcn
from tests.helpers.tiny import tiny_model, tiny_recipe, write_streets

NAMES = ["car [parked]", "road [/wet]", r"no\[/b]", "[bold]", "汽车", "\x1b[2Jx"]
CPU = ("--accelerator", "cpu", "--workers", "0")


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_streets(tmp_path_factory.mktemp("data") / "streets [new]", 2, 2)


@pytest.fixture(scope="module")
def named_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network for streets whose first classes have awkward names, in a folder with brackets."""
    recipe = tiny_recipe()
    description = build.description(recipe)
    for entry, name in zip(description.classes, NAMES, strict=False):
        object.__setattr__(entry, "name", name)
    path = tmp_path_factory.mktemp("run") / "runs [new]" / "x" / "weights.safetensors"
    path.parent.mkdir(parents=True)
    weights.save(path, tiny_model(), recipe, description)
    return path


def process(encoding: str, *arguments: object, columns: int = 80) -> Finished:
    """The command in a process whose output has that encoding."""
    environment = os.environ | {"PYTHONIOENCODING": encoding, "COLUMNS": str(columns), "FASTFCN_KERNELS": "off"}
    command = [sys.executable, "-m", "fastfcn", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, env=environment)
    return Finished(done.returncode, done.stdout.decode(encoding), done.stderr.decode(encoding, "replace"))


def test_class_names_in_the_table_of_scores(named_weights: Path, streets: Path):
    done = fastfcn("evaluate", named_weights, "--data", streets, *CPU)
    assert done.code == 0, done
    for name in (*NAMES[:5], r"\x1b[2Jx"):
        assert name in done.out
    assert "\x1b" not in done.out


def test_paths_with_brackets(named_weights: Path, streets: Path, tmp_path: Path):
    done = fastfcn("predict", named_weights, streets / "images" / "val", "--out", tmp_path / "out [/5]")
    assert done.code == 0, done
    assert str(tmp_path / "out [/5]") in done.out
    assert str(named_weights) in fastfcn("info", named_weights).out
    for path in (r"no\[/b].safetensors", "[/x].safetensors", "\x1b[2J.safetensors"):
        done = fastfcn("info", tmp_path / path)
        assert done.code == 2
        assert path.replace("\x1b", r"\x1b") in done.err


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_encodings_without_boxes_and_bars(named_weights: Path, streets: Path, tmp_path: Path, encoding: str):
    scores = tmp_path / "scores.json"
    done = process(encoding, "evaluate", named_weights, "--data", streets, *CPU, "--json", scores)
    assert done.code == 0, done
    assert r"# \u6c7d\u8f66" in done.out
    assert json.loads(scores.read_text())["classes"].keys() >= {"汽车", "road [/wet]"}


def test_output_that_cannot_be_written_keeps_the_results(named_weights: Path, streets: Path, tmp_path: Path):
    """The table goes to a full device; the scores were written before."""
    scores = tmp_path / "scores.json"
    command = [sys.executable, "-m", "fastfcn", "evaluate", named_weights, "--data", streets, *CPU, "--json", scores]
    with Path("/dev/full").open("w") as full:
        subprocess.run(list(map(str, command)), stdout=full, stderr=subprocess.DEVNULL)
    assert json.loads(scores.read_text())["classes"]


@pytest.mark.parametrize("columns", [40, 60, 120])
def test_narrow_terminals_keep_the_scores(columns: int):
    """Bars are left out first, then share and accuracy; long names are wrapped."""
    names = ("sky", "a name of a class that is very long", "car")
    classes = [SegmentationClass(name=name, color=(1, 2, 3)) for name in names]
    description = build.description(tiny_recipe()).model_copy(update={"classes": classes})
    counts = np.array([[83, 17, 0], [9, 71, 0], [0, 0, 0]])
    result = EvaluationResult(Scores(counts), description, "val")
    console = SafeConsole(file=io.StringIO(), width=columns)
    console.print(score_table(result, console))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for value in ("76.15", "73.20", "a name", "none"):
        assert value in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= columns
    assert "┃ accuracy ┃" in text
    assert ("share ┃" in text, "█" in text) == (columns >= 60, columns == 120)
