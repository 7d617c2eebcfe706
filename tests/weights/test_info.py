"""`info` of weights files on the terminal and as JSON, including files of earlier versions."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import safetensors
from safetensors.torch import save_file

from fastfcn import build, weights
from fastfcn.weights.info import info
from tests.helpers import command
from tests.helpers.tiny import tiny_model, tiny_recipe


def test_as_json(weights_file: Path):
    done = command.fastfcn("info", weights_file, "--json")
    assert done.code == 0, done
    record = json.loads(done.out)
    assert record == info(weights_file)
    model = tiny_model()
    assert record["training_parameters"] == sum(parameter.numel() for parameter in model.parameters())
    model.auxiliary = None
    assert record["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert record["bytes"] == weights_file.stat().st_size
    assert record["recipe"] == "tiny"
    assert record["dataset"] == {"name": "streets", "title": build.description(tiny_recipe()).title}
    assert record["classes"][2] == {"name": "road", "color": [92, 92, 110], "ids": [2]}
    assert record["score"] == {"miou": 12.5}
    assert record["network"]["neck"] == "jpu"
    age = datetime.now(UTC) - datetime.fromisoformat(record["made"]["time"])
    assert 0 <= age.total_seconds() < 24 * 3600
    assert record["made"]["fastfcn"] == "0.1.0"


def test_on_the_screen(weights_file: Path):
    done = command.fastfcn("info", weights_file)
    assert done.code == 0, done
    for word in (str(weights_file), "tiny", "mIoU 12.50", "9 classes", "■ pavement", "test_resnet -> jpu -> psp"):
        assert word in done.out


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"miou": 68.123, "split": "val", "step": 1200}, "mIoU 68.12 on val after 1200 steps"),
        ({}, "fastfcn evaluate"),
        ({"converted_from": "psp.pth"}, "not recorded; converted from psp.pth"),
    ],
)
def test_scores_in_words(tmp_path: Path, facts: dict, text: str):
    used = tiny_recipe()
    weights.save(tmp_path / "w.safetensors", tiny_model(), used, build.description(used), facts)
    assert text in command.fastfcn("info", tmp_path / "w.safetensors").out


def test_published_scores_are_those_of_published_weights(tmp_path: Path):
    used = tiny_recipe('published={miou=41.4, source="https://example.org"}')
    record = build.description(used)
    weights.save(tmp_path / "own.safetensors", tiny_model(), used, record, {"miou": 9.0})
    weights.save(tmp_path / "theirs.safetensors", tiny_model(), used, record, {"converted_from": "psp.pth"})
    assert info(tmp_path / "own.safetensors")["published"] is None
    assert info(tmp_path / "theirs.safetensors")["published"]["miou"] == 41.4
    assert "mIoU 41.40 (published)" in command.fastfcn("info", tmp_path / "theirs.safetensors").out


def test_a_file_of_before(weights_file: Path, tmp_path: Path):
    """Without time, version and checksum."""
    with safetensors.safe_open(str(weights_file), framework="pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del header["made"], header["checksum"]
    save_file(tensors, tmp_path / "old.safetensors", header)
    assert info(tmp_path / "old.safetensors")["made"] == {}
    done = command.fastfcn("info", tmp_path / "old.safetensors")
    assert done.code == 0
    assert "not recorded" in done.out


def test_invalid_weights_files(tmp_path: Path):
    (tmp_path / "w.safetensors").write_text("x")
    done = command.fastfcn("info", tmp_path / "w.safetensors")
    assert done.code == 2
    assert "is not a weights file of fastfcn" in done.err
