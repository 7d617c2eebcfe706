"""`--format triton`: the model repository, read with Triton's definition of its configuration if that is installed."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastfcn
from fastfcn.errors import UserError
from fastfcn.exporting import builder
from fastfcn.exporting.export import ExportResult, ExportSettings, export
from fastfcn.exporting.triton import triton_name, write_model
from fastfcn.exporting.verification import VerificationError
from fastfcn.prediction.runtimes.registry import RUNTIMES, read_metadata
from tests.exporting.conftest import report  # noqa: F401 # a fixture
from tests.exporting.small import SmallNetwork
from tests.exporting.test_export import use_writer, write_corrupted

FILES = ["1/model.onnx", "README.md", "config.pbtxt", "labels.txt", "test_request.json", "test_response.json"]


@pytest.fixture(scope="module")
def model(weights_file: Path, report: ExportResult, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """The folder of the tiny network in a repository; its ONNX file is that of the other tests."""
    repository = tmp_path_factory.mktemp("repository")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "trace", lambda *_: None)
        use_writer(patch, lambda program, metadata, path: path.write_bytes(report.path.read_bytes()))
        result = export(weights_file, "triton", repository, ExportSettings(logits=True, sizes=((17, 40),)))
    assert result.verification.failures() == []
    assert [path.name for path in repository.iterdir()] == [result.path.name]
    return result.path


def parse(text: str) -> Any:
    """A configuration as Triton reads it."""
    definition = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient is not installed")
    text_format = pytest.importorskip("google.protobuf.text_format")
    return text_format.Parse(text, definition.ModelConfig())


def test_the_folder_is_complete(model: Path, report: ExportResult):  # noqa: F811
    assert sorted(str(path.relative_to(model)) for path in model.rglob("*") if path.is_file()) == FILES
    assert (model / "1" / "model.onnx").read_bytes() == report.path.read_bytes()
    assert (model / "labels.txt").read_text().splitlines() == list(fastfcn.load(report.path).classes)
    readme = (model / "README.md").read_text()
    assert f"/v2/models/{model.name}/infer" in readme
    assert f"@{model.name}/test_request.json" in readme


def test_triton_reads_the_configuration(model: Path):
    config = parse((model / "config.pbtxt").read_text())
    assert (config.name, config.backend, config.max_batch_size) == (model.name, "onnxruntime", 8)
    assert config.HasField("dynamic_batching")
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(model / "1" / "model.onnx").graph
    types = {"TYPE_UINT8": onnx.TensorProto.UINT8, "TYPE_FP32": onnx.TensorProto.FLOAT}
    for ours, theirs in ((config.input, graph.input), (config.output, graph.output)):
        assert [entry.name for entry in ours] == [entry.name for entry in theirs]
        for entry, value in zip(ours, theirs, strict=True):
            tensor = value.type.tensor_type
            assert types[type(entry).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[
                entry.data_type].name] == tensor.elem_type  # fmt: skip
            dims = [dimension.dim_value or -1 for dimension in tensor.shape.dim]
            assert dims == [-1, *entry.dims]  # Triton adds the batch


def test_the_configuration_without_protobuf(model: Path):
    """Its structure, whether or not Triton's definition is installed."""
    text = re.sub(r"#.*", "", (model / "config.pbtxt").read_text())
    assert re.findall(r'name: "(\w+)"\s+data_type: (\w+)\s+dims: \[ (.*?) \]', text) == [
        ("image", "TYPE_UINT8", "-1, -1, 3"),
        ("labels", "TYPE_UINT8", "-1, -1"),
        ("logits", "TYPE_FP32", f"{len((model / 'labels.txt').read_text().splitlines())}, -1, -1"),
    ]
    for opening, closing in ("[]", "{}"):
        assert text.count(opening) == text.count(closing)


def test_the_test_request_has_the_right_answer(model: Path):
    request, response = (json.loads((model / f"test_{name}.json").read_text()) for name in ("request", "response"))
    (image,), (labels,) = request["inputs"], response["outputs"]
    assert (image["datatype"], labels["datatype"], image["shape"][:3]) == ("UINT8", "UINT8", labels["shape"])
    pixels = np.array(image["data"], np.uint8).reshape(image["shape"])
    predicted = fastfcn.load(model / "1" / "model.onnx").labels(pixels)
    assert (predicted.ravel() == labels["data"]).mean() > 0.999


def test_a_file_that_fails_the_verification_leaves_nothing(
    weights_file: Path, report: ExportResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
):  # fmt: skip
    monkeypatch.setattr(builder, "trace", lambda *_: None)
    use_writer(monkeypatch, lambda program, metadata, path: write_corrupted(report.path, path))
    with pytest.raises(VerificationError, match="logits differ by up to"):
        export(weights_file, "triton", tmp_path, ExportSettings(logits=True, sizes=((17, 40),)))
    assert list(tmp_path.iterdir()) == []


def test_other_options(report: ExportResult, tmp_path: Path):  # noqa: F811
    metadata = read_metadata(report.path)
    assert metadata.self_test
    test = replace(metadata.self_test, certain=np.zeros_like(metadata.self_test.certain))
    write_model(tmp_path, replace(metadata, logits=False, self_test=test))
    assert "logits" not in (tmp_path / "config.pbtxt").read_text()
    assert "but for 1551 pixels where two classes are equal" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "expected"), [("city", "city"), ("my run (2)", "my_run_2_"), ("..", "network"), ("ü", "_")]
)
def test_names_are_those_of_folders(name: str, expected: str):
    assert triton_name(name) == expected


def test_a_file_as_repository_is_refused(weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(builder.weights, "load_model", lambda source: SmallNetwork())
    for suffix in (runtime.suffix for runtime in RUNTIMES.values()):
        with pytest.raises(UserError, match="must be a folder, the model repository"):
            export(weights_file, "triton", tmp_path / f"model{suffix}")
