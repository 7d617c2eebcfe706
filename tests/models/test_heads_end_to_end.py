"""OCR and UPerNet through training, the fast path and ONNX: what a new head gets without a change elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import fastfcn
from fastfcn import kernels
from fastfcn.exporting.export import ExportSettings, export
from fastfcn.fast import optimize as module
from fastfcn.fast.optimize import optimize
from fastfcn.prediction.exported import ExportedPredictor
from fastfcn.training.run import Run
from tests.helpers.command import fastfcn as command
from tests.helpers.tiny import NARROW, picture, tiny_model, tiny_weights, write_streets

HEADS = {
    "ocr": (
        'auxiliary={kind="none"}',
        'head={kind="ocr", width=8, key_width=4, kernel=3, dropout=0.1, align_corners=false, regions_loss_weight=0.4}',
    ),
    "ocr, wide": (
        "neck.width=32",
        'head={kind="ocr", width=64, key_width=32, kernel=3, dropout=0, align_corners=false, regions_loss_weight=0.4}',
    ),
    "upernet": (
        'neck={kind="none"}',
        'head={kind="upernet", width=8, pools=[1, 3], kernel=3, dropout=0.1, align_corners=false}',
    ),
    "upernet, wide": (
        'neck={kind="none"}',
        'head={kind="upernet", width=64, pools=[1, 2, 3, 6], kernel=3, dropout=0.1, align_corners=false}',
    ),
}
EXTRAS = {"ocr": {"regions"}, "upernet": {"auxiliary"}}


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("name", HEADS)
@torch.no_grad()
def test_the_fast_path_equals_the_plain_network(name: str, compiled: bool, monkeypatch: pytest.MonkeyPatch):
    if compiled and not kernels.available():
        pytest.skip("the kernels could not be built here")
    monkeypatch.setattr(module.kernels, "available", lambda: compiled)
    model = tiny_model(*HEADS[name])
    fast = optimize(model)
    for size in [(64, 96), (33, 65), (7, 100)]:
        images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
        expected = model.logits(images)
        scale = expected.abs().max().item()
        torch.testing.assert_close(fast.logits(images), expected, rtol=0, atol=2e-4 * scale)
        labels = fast.labels(images)
        best = model(images).topk(2, dim=1).values
        clear = best[:, 0] - best[:, 1] > 2e-3 * scale
        assert torch.equal(labels[clear], model.labels(images)[clear])


@pytest.mark.parametrize("name", EXTRAS)
def test_a_short_training_on_the_command_line(name: str, tmp_path: Path):
    data, run = write_streets(tmp_path / "data"), tmp_path / "run"
    changes = [change for change in NARROW if name != "upernet" or not change.startswith("neck.")]
    done = command(
        "train", "demo", *changes, *HEADS[name], "--data", data, "--out", run, "--workers", "0", "--no-report"
    )
    assert done.code == 0, done.err
    losses = [line for line in Run(run).read_log() if "loss" in line]
    assert [line["step"] for line in losses] == [1, 2, 3, 4]
    for line in losses:
        parts = EXTRAS[name] | {"main"}
        assert parts <= line.keys()
        assert line["loss"] == pytest.approx(sum(line[part] for part in parts), rel=1e-4)
    labels = fastfcn.load(run / "weights.safetensors", "cpu")(picture()).labels
    assert labels.shape == (64, 96)


@pytest.mark.parametrize("name", EXTRAS)
def test_onnx_files_are_verified_and_give_equal_labels(name: str, tmp_path: Path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    weights = tiny_weights(tmp_path / "weights.safetensors", *HEADS[name])
    result = export(weights, "onnx", tmp_path / "model.onnx", ExportSettings(sizes=((61, 83), (17, 40))))
    assert result.verification.failures() == []
    exported = fastfcn.load(result.path, "cpu")
    assert isinstance(exported, ExportedPredictor)
    expected = fastfcn.load(weights, "cpu")(picture()).labels
    assert np.mean(exported(picture()).labels == expected) > 0.999
    assert json.loads(exported.session.metadata["classes"]) == list(exported.classes)
