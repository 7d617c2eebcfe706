"""The registry of export formats: a new format is one `Runtime` entry, and one function decides which files load."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.export import ExportedProgram

import fastfcn
from fastfcn.bench.bench import bench
from fastfcn.errors import UserError, WeightsError
from fastfcn.evaluation.evaluate import evaluate
from fastfcn.exporting import builder
from fastfcn.exporting.export import ExportSettings, export
from fastfcn.prediction.exported import ExportedPredictor
from fastfcn.prediction.load import is_model_file, open_model, open_weights
from fastfcn.prediction.predictor import TorchPredictor
from fastfcn.prediction.runtimes.base import Runtime
from fastfcn.prediction.runtimes.registry import RUNTIMES, find_runtime, runtime_of
from fastfcn.utils.machine import Machine
from fastfcn.weights.file import Weights
from tests.exporting.small import SmallNetwork
from tests.helpers.command import fastfcn as command
from tests.helpers.paths import ROOT
from tests.helpers.tiny import picture, write_streets

SIZES = ((61, 83), (17, 40))


def write_program(program: ExportedProgram, metadata: dict[str, str], path: Path) -> None:
    torch.export.save(program, path.with_suffix(".ep2"))
    path.write_text(json.dumps(metadata))


class ProgramSession:
    """A traced program, run by PyTorch."""

    def __init__(self, path: Path, device: str):
        try:
            self.metadata = json.loads(path.read_text())
        except ValueError as error:
            raise WeightsError(f"{path} is not valid.") from error
        self.program = torch.export.load(path.with_suffix(".ep2")).module()

    @torch.inference_mode()
    def run(self, images: np.ndarray) -> list[np.ndarray]:
        return [output.numpy() for output in self.program(torch.from_numpy(images))]


@pytest.fixture
def new_format(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """A format that is added by one entry."""
    runtime = Runtime("program", "Traced program", ".ep", write_program, ProgramSession, companions=(".ep2",))
    monkeypatch.setitem(RUNTIMES, "program", runtime)
    return runtime


def test_a_new_format_is_exported_and_loaded(
    new_format: Runtime, weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(builder.weights, "load_model", lambda source: SmallNetwork())
    out = tmp_path / "model.ep"
    result = export(weights_file, "program", out, ExportSettings(logits=True, sizes=SIZES))
    assert result.verification.failures() == []
    assert result.verification.title == "Traced program"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.ep", "model.ep2"]
    predictor = fastfcn.load(out, "cpu")
    assert isinstance(predictor, ExportedPredictor)
    assert predictor(picture(33, 40), logits=True).labels.shape == (33, 40)
    streets = write_streets(tmp_path / "streets", train=1, val=1)
    assert evaluate(out, streets, Machine("cpu", workers=0)).scores.counts.sum() > 0
    with pytest.raises(UserError, match="Traced program does not support int8"):
        export(weights_file, "program", out, ExportSettings(calibrate=tmp_path))


def test_unknown_formats_are_refused_with_a_suggestion(weights_file: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"Unknown export format 'executorh'; did you mean .executorch.\?"):
        export(weights_file, "executorh", tmp_path / "model.pte")
    with pytest.raises(UserError, match=r"Choose one of .*onnx.*openvino"):
        find_runtime("tensorrt")
    assert list(tmp_path.iterdir()) == []


def test_names_and_suffixes_are_unique():
    assert [runtime.name for runtime in RUNTIMES.values()] == list(RUNTIMES)
    assert len({runtime.suffix for runtime in RUNTIMES.values()}) == len(RUNTIMES)
    assert set(RUNTIMES) >= {"onnx", "openvino", "pt2", "executorch"}
    for runtime in RUNTIMES.values():
        assert runtime_of(f"model{runtime.suffix.upper()}") is runtime


def test_extras_install_the_packages():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for runtime in RUNTIMES.values():
        packages = {*runtime.writing_packages, *runtime.running_packages}
        assert packages <= {requirement.split(">")[0] for requirement in extras.get(runtime.extra, [])}


def test_the_suffix_decides_what_a_file_is(weights_file: Path):
    assert isinstance(open_model(weights_file), Weights)
    assert isinstance(fastfcn.load(weights_file, "cpu"), TorchPredictor)
    assert is_model_file("model.onnx")
    assert is_model_file("weights.safetensors")
    assert is_model_file("hf://user/name")
    assert not is_model_file("fastfcn_r50_psp_cityscapes_80k_b8")
    assert not is_model_file("recipe.toml")
    assert runtime_of("weights.safetensors") is None


def test_help_names_every_format_and_suffix():
    text = command("export", "--help").out
    for runtime in RUNTIMES.values():
        assert runtime.name in text
        assert runtime.suffix in text


@pytest.mark.parametrize(("option", "logits"), [((), False), (("--logits",), True), (("--scores",), True)])
def test_logits_on_the_command_line(option: tuple, logits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`--scores`, the former name, still works but is not listed."""
    settings = []

    def record(weights: str, format: str, out: Path, used: ExportSettings, report_step: Callable) -> None:
        settings.append(used)
        raise UserError("stop")

    monkeypatch.setattr("fastfcn.exporting.export.export", record)
    monkeypatch.chdir(tmp_path)
    Path("w.safetensors").touch()
    command("export", "w.safetensors", "--format", "onnx", "--out", "m.onnx", *option)
    assert settings[0].logits == logits
    assert "--scores" not in command("export", "--help").out


def test_exported_files_cannot_be_exported_or_trained(tmp_path: Path):
    path = tmp_path / "model.onnx"
    with pytest.raises(UserError, match=r"Cannot export .*model\.onnx: it is an exported file \(ONNX Runtime\)"):
        open_weights(path, "export")
    with pytest.raises(UserError, match="--no-train"):
        bench([str(path)])
    path.touch()
    done = command("export", path, "--format", "openvino", "--out", tmp_path / "model.xml")
    assert done.code == 2
    assert ".safetensors" in done.err or "pip install" in done.err  # without the extra
