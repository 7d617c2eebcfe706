"""Files written by version 0.1.0, before modules and names moved: they load, with equal outputs, and resume."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import fastfcn
from fastfcn import weights
from fastfcn.training.run import Run
from tests.helpers.command import fastfcn as run_command
from tests.helpers.paths import STORED
from tests.helpers.tiny import picture, write_streets

PAST = STORED / "version_0_1"
EXPECTED = json.loads((PAST / "expected.json").read_text())
DIGITS = "0123456789abcdefghij"


def as_digits(labels: np.ndarray) -> list[str]:
    """Every fourth row and column of the labels, one string per row."""
    return ["".join(DIGITS[value] for value in row) for row in labels[::4, ::4].tolist()]


@pytest.mark.parametrize("name", ["enc", "official"])
def test_weights_files_give_equal_labels(name: str):
    labels = fastfcn.load(PAST / f"{name}.safetensors", "cpu")(picture()).labels
    assert as_digits(labels) == EXPECTED[name]


def test_an_exported_file_gives_equal_labels_and_logits():
    """Its metadata names the second output "scores"."""
    pytest.importorskip("onnxruntime")
    predictor = fastfcn.load(PAST / "enc.onnx", "cpu")
    prediction = predictor(picture(), logits=True)
    assert as_digits(prediction.labels) == EXPECTED["enc"]
    expected = fastfcn.load(PAST / "enc.safetensors", "cpu")(picture(), logits=True)
    assert prediction.logits is not None
    np.testing.assert_allclose(prediction.logits, expected.logits, atol=2e-3)


@pytest.mark.parametrize("name", ["enc", "official"])
def test_weights_files_give_equal_logits(name: str):
    model = weights.load_model(weights.read(PAST / f"{name}.safetensors"))
    images = torch.from_numpy(picture()).permute(2, 0, 1)[None].float() / 64 - 2
    with torch.inference_mode():
        logits = model.logits(images).flatten().numpy()
    expected = np.array(EXPECTED[f"{name}_logits"])
    np.testing.assert_allclose(logits[:: max(1, len(logits) // 24)], expected, atol=2e-3)


def test_a_stopped_run_resumes_with_equal_losses(tmp_path: Path):
    data, run = write_streets(tmp_path / "data"), tmp_path / "run"
    shutil.copytree(PAST / "run", run)
    done = run_command(
        "train", run / "recipe.toml", "--data", data, "--out", run, "--workers", "0", "--no-report", "--resume"
    )
    assert done.code == 0, done.err
    log = [line for line in Run(run).read_log() if "loss" in line]
    expected = [line for line in EXPECTED["log"] if "loss" in line]
    assert [line["step"] for line in log] == [1, 2, 3, 4]
    for line, before in zip(log, expected, strict=True):
        assert line["loss"] == pytest.approx(before["loss"], abs=1e-4)
