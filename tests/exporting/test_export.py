"""`fastfcn export` end to end with ONNX, the errors it detects, and the use of exported files."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastfcn
from fastfcn.errors import MissingExtraError, UserError, WeightsError
from fastfcn.evaluation.evaluate import evaluate
from fastfcn.exporting import builder
from fastfcn.exporting import export as export_module
from fastfcn.exporting.export import ExportResult, ExportSettings, export
from fastfcn.exporting.network import trace_backed
from fastfcn.exporting.verification import SizeResult, VerificationError
from fastfcn.prediction.exported import ExportedPredictor
from fastfcn.prediction.predictor import Predictor
from fastfcn.prediction.runtimes import base
from fastfcn.prediction.runtimes.registry import RUNTIMES
from fastfcn.utils.machine import Machine
from tests.exporting.conftest import report  # noqa: F401 # a fixture
from tests.exporting.small import SmallNetwork
from tests.helpers.command import fastfcn as command
from tests.helpers.tiny import picture, save_picture, tiny_recipe, write_streets

SIZES = ((61, 83), (17, 40))


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_streets(tmp_path_factory.mktemp("streets"), train=1, val=2)


@pytest.fixture(scope="module")
def exported(report: ExportResult) -> ExportedPredictor:  # noqa: F811
    loaded = fastfcn.load(report.path, "cpu")
    assert isinstance(loaded, ExportedPredictor)
    return loaded


def test_a_correct_file_is_verified_and_describes_itself(report: ExportResult, exported: ExportedPredictor):  # noqa: F811
    assert report.verification.failures() == []
    assert [result.batch for result in report.verification.results] == [2, 1]
    assert all(0 <= result.difference < 2e-3 for result in report.verification.results)
    assert report.as_json()["worst_agreement"] >= 0.9999
    assert [path.name for path in report.path.parent.iterdir()] == ["model.onnx"]
    assert exported.recipe.text == tiny_recipe().text
    metadata = exported.session.metadata
    assert json.loads(metadata["classes"]) == list(exported.classes)
    assert json.loads(metadata["colors"])[0] == list(exported.description.colors[0])
    assert metadata["version"] == fastfcn.__version__


def test_the_file_has_standard_operators_and_dynamic_sizes(report: ExportResult):  # noqa: F811
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(report.path).graph
    assert {node.domain for node in graph.node} == {""}
    shapes = [[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in graph.input]
    assert shapes == [["batch", "height", "width", 3]]
    assert [value.name for value in graph.output] == ["labels", "logits"]


def test_predictions_equal_those_of_the_weights_file(exported: ExportedPredictor, predictor: Predictor):
    images = [picture(64, 96), picture(40, 57, seed=1), picture(40, 57, seed=2)]
    for ours, theirs in zip(exported(images, logits=True), predictor(images, logits=True), strict=True):
        assert (ours.labels == theirs.labels).mean() > 0.999
        assert ours.logits is not None
        assert theirs.logits is not None
        assert np.abs(ours.logits - theirs.logits).max() < 2e-3
    tiny = picture(3, 2)
    assert np.abs(exported(tiny, logits=True).logits - predictor(tiny, logits=True).logits).max() < 2e-3


def test_other_precisions_are_rejected(report: ExportResult, streets: Path, tmp_path: Path):  # noqa: F811
    """An exported file has a fixed precision: asking for another one must not be ignored silently."""
    assert fastfcn.load(report.path, "cpu", precision="32-true").labels(picture()[None]).shape == (1, 64, 96)
    with pytest.raises(UserError, match=r"model\.onnx was exported in f32 and cannot run in bf16-mixed"):
        fastfcn.load(report.path, "cpu", precision="bf16-mixed")
    with pytest.raises(UserError, match="cannot run in bf16-mixed"):
        evaluate(report.path, streets, Machine("cpu", workers=0, precision="bf16-mixed"))
    image = save_picture(tmp_path / "a.png")
    for arguments in (
        ("predict", report.path, image, "--out", tmp_path / "out", "--device", "cpu"),
        ("bench", report.path, "--no-train", "--accelerator", "cpu"),
    ):
        done = command(*arguments, "--precision", "bf16-mixed")
        assert done.code == 2
        assert "cannot run in bf16-mixed" in done.err


SLIDING = 'eval={kind="sliding", every=4, base_size=96, crop=64, stride=32, scales=[1.0], flip=true}'


def test_evaluation_equals_that_of_the_weights_file(report: ExportResult, weights_file: Path, streets: Path):  # noqa: F811
    for tta, changes in ((False, ()), (False, ("eval.resize=[48, 80]",)), (True, ()), (False, (SLIDING,))):
        both = [
            evaluate(path, streets, Machine("cpu", workers=0), tta=tta, overrides=changes).scores.counts
            for path in (report.path, weights_file)
        ]
        assert np.abs(both[0] - both[1]).sum() <= 2e-3 * both[1].sum()


def use_writer(monkeypatch: pytest.MonkeyPatch, write: Callable) -> None:
    """Let `write` write ONNX files."""
    monkeypatch.setitem(RUNTIMES, "onnx", replace(RUNTIMES["onnx"], write=write))


def write_corrupted(path: Path, out: Path) -> None:
    """The ONNX file with the last weight of its first convolution changed."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(path)
    name = next(node.input[1] for node in model.graph.node if node.op_type == "Conv")
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[-1] += 0.1
    weight.CopyFrom(onnx.numpy_helper.from_array(values, name))
    onnx.save(model, out)


def test_one_changed_weight_is_detected(report: ExportResult, weights_file: Path, tmp_path: Path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(builder, "trace", lambda *_: None)
    use_writer(monkeypatch, lambda program, metadata, path: write_corrupted(report.path, path))
    old = tmp_path / "model.onnx"
    old.write_bytes(b"older")
    with pytest.raises(VerificationError, match="at 61x83, batch 2: logits differ by up to") as refused:
        export(weights_file, "onnx", old, ExportSettings(logits=True, sizes=SIZES))
    assert not refused.value.verification.results[0].problem
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert old.read_bytes() == b"older"


def test_stock_adaptive_pooling_is_rejected(weights_file: Path, tmp_path: Path, monkeypatch, capfd):
    """It is correct in PyTorch, but cannot be exported with unbacked sizes. With backed sizes it can, but the file is
    wrong, which only running it at other sizes shows: at 61x83 it happens to be correct."""
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(builder.weights, "load_model", lambda checkpoint: SmallNetwork(stock=True))
    settings = ExportSettings(logits=True, sizes=SIZES)
    with pytest.raises(UserError, match=r"^test_resnet \(tiny\) cannot be exported to onnx") as refused:
        export(weights_file, "onnx", tmp_path / "model.onnx", settings)
    assert "Try --format" in (refused.value.hint or "")
    assert capfd.readouterr() == ("", "")  # PyTorch would print the graph
    monkeypatch.setattr(builder, "trace", trace_backed)
    with pytest.raises(VerificationError, match="at 17x40, batch 1: logits differ by up to"):
        export(weights_file, "onnx", tmp_path / "model.onnx", settings)
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_logits(weights_file: Path, tmp_path: Path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(builder.weights, "load_model", lambda checkpoint: SmallNetwork())
    made = export(weights_file, "onnx", tmp_path / "model.onnx", ExportSettings(sizes=SIZES))
    assert made.verification.failures() == []
    loaded = fastfcn.load(made.path)
    assert loaded(picture(33, 40)).labels.shape == (33, 40)
    with pytest.raises(UserError, match="--logits"):
        loaded(picture(33, 40), logits=True)


def test_mean_iou_before_and_after(report: ExportResult, weights_file: Path, streets: Path):  # noqa: F811
    exported = ExportedPredictor(report.path)
    measured = export_module._with_miou(report, weights_file, ExportSettings(data=streets), exported)
    assert measured.miou_before == pytest.approx(measured.miou_after, abs=0.05)
    assert measured.miou_before is not None
    assert measured.miou_before > 0


def test_int8_that_loses_too_much_is_rejected(report: ExportResult):  # noqa: F811
    lossy = replace(report, miou_before=70.0, miou_after=68.5)
    with pytest.raises(VerificationError, match=r"loses 1\.50 points of mIoU"):
        export_module._check_loss(lossy, ExportSettings(max_loss=1.0))
    export_module._check_loss(lossy, ExportSettings(max_loss=2.0))
    export_module._check_loss(lossy, ExportSettings(max_loss=1.0, force=True))


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (SizeResult((9, 8), 1, 0.9998, 1e-4, 2e-3, 1), "1 pixels have wrong labels, which rounding does not explain"),
        (SizeResult((9, 8), 1, 1.0, 3e-3, 2e-3), "logits differ by up to 0.003 (tolerance 0.002, 4 times"),
        (SizeResult((9, 8), 1, 1.0, float("nan"), 2e-3), "logits differ by up to nan"),
        (SizeResult((9, 8), 1, 1.0, 0.0, float("nan")), "PyTorch's own logits are not finite"),
        (SizeResult((9, 8), 1, problem="no such kernel"), "no such kernel"),
    ],
)
def test_failures_name_the_size_and_the_value(result: SizeResult, message: str):
    assert message in result.failures()[0]
    assert result.failures()[0].startswith("at 9x8, batch 1: ")
    assert SizeResult((9, 8), 1, 0.99991, 1e-3, 1e-3).failures() == []


@pytest.mark.parametrize(
    ("format", "name", "settings", "message"),
    [
        ("tensorrt", "model.onnx", ExportSettings(), "Unknown export format 'tensorrt'"),
        ("onnx", "model.xml", ExportSettings(), "must end in .onnx"),
        ("onnx", "model.onnx", ExportSettings(sizes=()), "needs at least one size"),
        ("onnx", "model.onnx", ExportSettings(sizes=((64, 96),)), "is traced"),
        ("onnx", "model.onnx", ExportSettings(calibrate=Path("photos")), "does not support int8"),
        ("openvino", "model.xml", ExportSettings(calibrate=Path("photos")), "labeled images"),
    ],
)
def test_invalid_settings_are_rejected_before_the_export(
    format, name, settings, message, weights_file: Path, tmp_path: Path
):
    pytest.importorskip("nncf")
    with pytest.raises(UserError, match=message):
        export(weights_file, format, tmp_path / name, settings)


def test_a_missing_runtime_names_its_extra(weights_file: Path, report: ExportResult, monkeypatch):  # noqa: F811
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"fastfcn\[openvino\]"):
        export(weights_file, "openvino", "model.xml")
    with pytest.raises(MissingExtraError, match=r"fastfcn\[onnx\]"):
        fastfcn.load(report.path)


def test_other_onnx_files_are_rejected(tmp_path: Path):
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [1])
    same = onnx.helper.make_tensor_value_info("same", onnx.TensorProto.UINT8, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["image"], ["same"])], "g", [value], [same])
    opset = onnx.helper.make_opsetid("", 20)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), tmp_path / "other.onnx")
    with pytest.raises(WeightsError, match="was not written by `fastfcn export`"):
        fastfcn.load(tmp_path / "other.onnx")
    with pytest.raises(WeightsError, match="There is no file"):
        fastfcn.load(tmp_path / "none.onnx")
    with pytest.raises(UserError, match=r"cannot run .* on mps"):
        fastfcn.load(tmp_path / "other.onnx", "mps")


def test_commands_accept_an_exported_file(report: ExportResult, tmp_path: Path):  # noqa: F811
    photo = save_picture(tmp_path / "photo.png")
    done = command("predict", report.path, photo, "--out", tmp_path / "segmented")
    assert done.code == 0, done.err
    assert (tmp_path / "segmented" / "photo.png").is_file()
    wrong = command("bench", report.path, "--size", "64x64", "--runs", "1")
    assert wrong.code == 2
    assert "--no-train" in wrong.err
    assert command("export", "w", "--format", "onnx", "--out", "m.onnx", "--int8").code == 2


def test_the_command_shows_the_verification(weights_file: Path, report: ExportResult, tmp_path: Path, monkeypatch):  # noqa: F811
    """A table and the JSON file; on failure the table comes before the error."""
    arguments = ("export", weights_file, "--format", "onnx", "--logits", "--sizes", "61x83")
    monkeypatch.setattr(builder, "trace", lambda *_: None)
    use_writer(monkeypatch, lambda program, metadata, path: path.write_bytes(report.path.read_bytes()))
    done = command(*arguments, "--out", tmp_path / "right.onnx", "--json", tmp_path / "verification.json")
    assert done.code == 0, done.err
    assert "61x83 x 2" in done.out
    assert json.loads((tmp_path / "verification.json").read_text())["worst_difference"] < 2e-3
    use_writer(monkeypatch, lambda program, metadata, path: write_corrupted(report.path, path))
    done = command(*arguments, "--out", tmp_path / "wrong.onnx")
    assert done.code == 2
    assert "61x83 x 2" in done.out
    assert "logits differ" in done.err
    assert not (tmp_path / "wrong.onnx").exists()
