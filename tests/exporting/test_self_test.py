"""The self-test that exported files carry: planted damage is refused, rounding is not, older files load unchanged."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastfcn
from fastfcn.errors import WeightsError
from fastfcn.exporting import builder as builder_module
from fastfcn.exporting.builder import Builder
from fastfcn.exporting.export import ExportResult, ExportSettings, export
from fastfcn.exporting.verification import expected_outputs, sample_image
from fastfcn.prediction.exported import ExportedPredictor
from fastfcn.prediction.runtimes.registry import RUNTIMES
from fastfcn.prediction.runtimes.self_test import OTHER_DEVICES, SIZE, SWITCH, SelfTest, run_self_test
from fastfcn.weights.file import read
from tests.exporting.conftest import report  # noqa: F401 # a fixture
from tests.exporting.small import SmallNetwork
from tests.helpers.command import fastfcn as command
from tests.helpers.tiny import picture, save_picture, tiny_recipe


@pytest.fixture(scope="module")
def outputs() -> list[np.ndarray]:
    """Labels and logits of a small network for the image of the self-test."""
    logits = expected_outputs(SmallNetwork(), tiny_recipe(), sample_image(SIZE)[None]).logits
    return [logits.argmax(1).astype(np.uint8), logits.astype(np.float32)]


@pytest.fixture(scope="module")
def exact_test() -> SelfTest:
    expected = expected_outputs(SmallNetwork(), tiny_recipe(), sample_image(SIZE)[None])
    return SelfTest.from_logits(sample_image(SIZE), expected.logits[0], expected.tolerance)


def damaged(outputs: list[np.ndarray], error: float) -> list[np.ndarray]:
    """The outputs with one logit wrong by `error`."""
    labels, logits = outputs
    logits = logits.copy()
    logits[0, 2, 16, 24] += error
    return [labels, logits]


def test_right_outputs_pass(exact_test: SelfTest, outputs: list[np.ndarray]):
    assert exact_test.certain.mean() > 0.99
    assert exact_test.problem(outputs) == exact_test.problem(outputs[:1]) == ""
    restored = SelfTest.from_json(json.loads(json.dumps(exact_test.as_json())))
    assert np.array_equal(restored.image, exact_test.image)
    assert restored.problem(outputs) == ""
    assert len(json.dumps(exact_test.as_json())) < 20_000


def test_logits_beyond_the_tolerance_are_refused(exact_test: SelfTest, outputs: list[np.ndarray]):
    tolerance = exact_test.tolerance
    assert exact_test.problem(damaged(outputs, 0.5 * tolerance)) == ""
    assert "logits differ by up to" in exact_test.problem(damaged(outputs, 2 * tolerance))
    assert "logits differ by up to nan" in exact_test.problem(damaged(outputs, float("nan")))
    # A GPU may round products to TF32.
    assert exact_test.problem(damaged(outputs, 2 * tolerance), "cuda:0") == ""
    assert "logits differ" in exact_test.problem(damaged(outputs, 2 * OTHER_DEVICES * tolerance), "cuda:0")


def test_one_wrong_label_is_refused_unless_both_classes_are_equal(exact_test: SelfTest, outputs: list[np.ndarray]):
    labels = outputs[0].copy()
    labels[0, 5, 7] += 1
    assert exact_test.problem([labels]) == f"1 of {exact_test.certain.sum():,} labels differ"
    uncertain = exact_test.certain.copy()
    uncertain[5, 7] = False
    assert replace(exact_test, certain=uncertain).problem([labels]) == ""
    assert exact_test.problem([labels], "cuda") == ""
    assert "labels differ" in exact_test.problem([labels + 1], "cuda")


def test_outputs_of_other_shapes_are_refused(exact_test: SelfTest, outputs: list[np.ndarray]):
    labels, logits = outputs
    assert "shape (1, 33, 46)" in exact_test.problem([labels[:, :, :-1], logits])
    assert "its logits have the shape" in exact_test.problem([labels, logits[:, :-1]])


def test_int8_may_change_as_much_as_by_quantization(outputs: list[np.ndarray]):
    labels, exact = outputs[0][0], outputs[1][0]
    rounded = np.round(exact * 4) / 4
    test = SelfTest.of_quantized(sample_image(SIZE), rounded.argmax(0), rounded, exact)
    assert 0.1 < test.tolerance <= 0.125
    assert test.problem([labels[None], exact[None]]) == ""
    assert test.problem([rounded.argmax(0)[None].astype(np.uint8)]) == ""
    assert "logits differ" in test.problem([labels[None], exact[None] + 0.3])
    assert "labels differ" in test.problem([np.roll(labels, 8)[None]])


@pytest.mark.parametrize("field", ["image", "labels", "certain", "logits", "tolerance", "wrong"])
def test_a_malformed_self_test_is_not_read(exact_test: SelfTest, field: str):
    value = exact_test.as_json()
    for wrong in (None, "x", {"dtype": "object", "shape": [1], "data": ""}, {"dtype": "uint8", "shape": [-1, 3]}):
        with pytest.raises((KeyError, ValueError, TypeError)):
            SelfTest.from_json(value | {field: wrong})
    del value[field]
    with pytest.raises(KeyError):
        SelfTest.from_json(value)


def test_a_runtime_that_fails_is_named(exact_test: SelfTest, monkeypatch: pytest.MonkeyPatch):
    def run(images: np.ndarray) -> list[np.ndarray]:
        raise RuntimeError("no kernel for Resize")

    with pytest.raises(WeightsError, match=r"m\.pt2 .*: AOTInductor failed: no kernel for Resize"):
        run_self_test(exact_test, run, "cpu", "m.pt2", "AOTInductor")
    monkeypatch.setenv(SWITCH, "off")
    run_self_test(exact_test, run, "cpu", "m.pt2", "AOTInductor")


def edited(path: Path, out: Path, edit: Callable) -> Path:
    """The ONNX file at `path` after `edit(model)`, written to `out`."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(path)
    edit(model)
    onnx.save(model, out)
    return out


def flip_bit(bit: int) -> Callable:
    """Flips one bit of a weight of the classifier, of the class that is predicted most: the file remains valid."""

    def edit(model) -> None:
        onnx = pytest.importorskip("onnx")
        tensor = next(entry for entry in model.graph.initializer if entry.name.endswith("head.classifier.weight"))
        values = onnx.numpy_helper.to_array(tensor).copy()
        values.reshape(-1).view(np.uint32)[3 * values.shape[1]] ^= np.uint32(1 << bit)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))

    return edit


def labels_only(model) -> None:
    del model.graph.output[1]


def without_self_test(model) -> None:
    entries = [entry for entry in model.metadata_props if entry.key != "self_test"]
    del model.metadata_props[:]
    model.metadata_props.extend(entries)


@pytest.mark.parametrize("bit", [31, 29, 23, 20])  # sign, exponent, exponent, mantissa
def test_a_flipped_bit_of_a_weight_is_refused(report: ExportResult, bit: int, tmp_path: Path, monkeypatch):  # noqa: F811
    path = edited(report.path, tmp_path / "damaged.onnx", flip_bit(bit))
    with pytest.raises(WeightsError, match=r"damaged\.onnx does not give the results .*: logits differ by") as refused:
        fastfcn.load(path)
    assert "export it again, or update ONNX Runtime" in refused.value.hint
    monkeypatch.setenv(SWITCH, "off")
    assert fastfcn.load(path)(picture()).labels.shape == (64, 96)


def test_damage_shows_in_labels_alone(report: ExportResult, tmp_path: Path):  # noqa: F811
    whole = edited(report.path, tmp_path / "labels.onnx", labels_only)
    fastfcn.load(whole)
    damaged = edited(whole, tmp_path / "damaged.onnx", flip_bit(29))
    with pytest.raises(WeightsError, match=r"damaged\.onnx does not give .* labels differ"):
        fastfcn.load(damaged)


def test_other_damage_is_refused(report: ExportResult, tmp_path: Path):  # noqa: F811
    def other_rounding(model) -> None:
        for node in model.graph.node:
            for attribute in node.attribute:
                if node.op_type == "Resize" and attribute.name == "coordinate_transformation_mode":
                    attribute.s = b"asymmetric"

    path = edited(report.path, tmp_path / "damaged.onnx", other_rounding)
    done = command("predict", path, save_picture(tmp_path / "a.png"), "--out", tmp_path / "out")
    assert done.code == 2
    assert re.search(r"does not give the\s+results", done.err)


def test_files_without_a_self_test_load_unchanged(report: ExportResult, tmp_path: Path):  # noqa: F811
    old = fastfcn.load(edited(report.path, tmp_path / "old.onnx", without_self_test))
    assert np.array_equal(old.labels(picture()[None]), fastfcn.load(report.path).labels(picture()[None]))
    damaged = edited(tmp_path / "old.onnx", tmp_path / "damaged.onnx", flip_bit(29))
    assert fastfcn.load(damaged).labels(picture()[None]).shape == (1, 64, 96)


def test_a_damaged_self_test_is_an_error(report: ExportResult, tmp_path: Path):  # noqa: F811
    def cut(model) -> None:
        entry = next(entry for entry in model.metadata_props if entry.key == "self_test")
        entry.value = entry.value[:-30]

    with pytest.raises(WeightsError, match="was not written by `fastfcn export`"):
        fastfcn.load(edited(report.path, tmp_path / "cut.onnx", cut))


@pytest.mark.parametrize(("format", "largest"), [("onnx", (512, 512)), ("executorch", (30, 512))])
def test_the_image_fits_the_format(format: str, largest: tuple[int, int], weights_file: Path):
    builder = Builder(read(weights_file), RUNTIMES[format], False, None, largest, lambda line: None)
    strings = builder.metadata(True, builder._self_test())
    image = SelfTest.from_json(json.loads(strings["self_test"])).image
    assert image.shape == ((30, 47, 3) if format == "executorch" else (*SIZE, 3))


def test_int8_files_are_compared_with_their_own_outputs(weights_file: Path, tmp_path: Path, monkeypatch):
    pytest.importorskip("nncf")
    monkeypatch.setattr(builder_module.weights, "load_model", lambda source: SmallNetwork())
    save_picture(tmp_path / "photos" / "a.png")
    settings = ExportSettings(sizes=((17, 40),), calibrate=tmp_path / "photos", force=True)
    export(weights_file, "openvino", tmp_path / "int8.xml", settings)
    loaded = fastfcn.load(tmp_path / "int8.xml")
    assert isinstance(loaded, ExportedPredictor)
    test = loaded.metadata.self_test
    assert test
    assert 0.02 <= test.wrong < 0.5
    assert test.tolerance > 1e-3
    assert np.array_equal(loaded.session.run(test.image[None])[0][0], test.labels)
