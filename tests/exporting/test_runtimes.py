"""The other runtimes, on a network of three convolutions."""

from pathlib import Path

import numpy as np
import pytest
from torch.export import ExportedProgram

from fastfcn.data.images import RGB
from fastfcn.errors import UserError, WeightsError
from fastfcn.exporting import int8
from fastfcn.exporting.network import trace, trace_backed
from fastfcn.exporting.verification import Candidate, Verification, network_logits, sample_image, verify
from fastfcn.prediction.runtimes import aotinductor, openvino
from fastfcn.prediction.runtimes.base import Session
from fastfcn.prediction.runtimes.metadata import ExportMetadata, parse_metadata
from fastfcn.prediction.runtimes.registry import RUNTIMES, open_session
from fastfcn.recipes.inference import inference_settings
from fastfcn.weights.file import read
from tests.exporting.small import SmallNetwork
from tests.helpers.tiny import save_picture, tiny_recipe

SIZES = ((61, 83), (128, 17), (33, 130), (1, 1))


@pytest.fixture(scope="module")
def metadata(weights_file: Path) -> dict[str, str]:
    source = read(weights_file)
    return ExportMetadata(source.recipe, source.description, logits=True, largest=(160, 160)).as_strings()


@pytest.fixture(scope="module")
def program() -> ExportedProgram:
    return trace(SmallNetwork(), tiny_recipe(), with_logits=True)


def verification_of(session: Session, model: SmallNetwork) -> Verification:
    candidate = Candidate(session, session, lambda images: network_logits(model, tiny_recipe(), images))
    return Verification("any", "PyTorch", 0.0, tuple(verify(model, tiny_recipe(), candidate, SIZES)))


def test_openvino_agrees_and_stores_metadata(program: ExportedProgram, metadata: dict[str, str], tmp_path: Path):
    pytest.importorskip("openvino")
    pytest.importorskip("onnxscript")
    model, path = SmallNetwork(), tmp_path / "model.xml"
    RUNTIMES["openvino"].write(program, metadata, path)
    session = open_session(path)
    assert session.metadata == metadata
    assert verification_of(session, model).failures() == []
    path.with_suffix(".bin").unlink()
    with pytest.raises(WeightsError, match=r"missing its weights model\.bin"):
        open_session(path)


@pytest.mark.parametrize(("change", "size"), [("eval.resize=none", (48, 64)), ("eval.resize=[24, 64]", (24, 32))])
def test_int8_is_calibrated_at_the_size_of_evaluation(change: str, size: tuple[int, int], tmp_path: Path):
    image = sample_image((48, 64))
    paths = [save_picture(tmp_path / "photo.png", image)]
    (batch,) = int8.CalibrationImages(paths, RGB, inference_settings(tiny_recipe(change), tta=True))
    assert (batch.shape, batch.dtype) == ((1, *size, 3), np.uint8)
    if size == image.shape[:2]:
        assert np.array_equal(batch[0], image)


def test_int8_rounds_convolutions(program: ExportedProgram, metadata: dict[str, str], tmp_path: Path):
    pytest.importorskip("nncf")
    pytest.importorskip("onnxscript")
    images = [save_picture(tmp_path / "photos" / f"{seed}.png", sample_image((48, 64), seed=seed)) for seed in range(3)]
    assert int8.calibration_images(tmp_path / "photos") == images
    model = SmallNetwork()
    rounded = int8.quantize(openvino.convert(program), images, RGB, inference_settings(tiny_recipe()))
    assert "FakeQuantize" in {op.get_type_name() for op in rounded.get_ops()}
    openvino.save(rounded, metadata, tmp_path / "model.xml")
    verification = verification_of(open_session(tmp_path / "model.xml"), model)
    differences = [result.difference for result in verification.results]
    assert max(differences) > 2e-3
    assert verification.failures()
    assert all(result.agreement > 0.5 for result in verification.results)


def test_pt2_files_must_be_trusted(metadata: dict[str, str], tmp_path: Path):
    model, path = SmallNetwork(), tmp_path / "model.pt2"
    aotinductor.check_compiler()
    RUNTIMES["pt2"].write(trace_backed(model, tiny_recipe(), True), metadata, path)
    assert aotinductor.read_metadata(path) == metadata
    with pytest.raises(UserError, match="native code"):
        open_session(path)
    assert verification_of(open_session(path, trusted=True), model).failures() == []


def test_executorch_accepts_sizes_up_to_the_largest(metadata: dict[str, str], tmp_path: Path):
    pytest.importorskip("executorch")
    model, path = SmallNetwork(), tmp_path / "model.pte"
    RUNTIMES["executorch"].write(trace_backed(model, tiny_recipe(), True, (160, 160)), metadata, path)
    session = open_session(path)
    assert parse_metadata(session.metadata, path).largest == (160, 160)
    assert verification_of(session, model).failures() == []
    images = np.stack([sample_image((40, 50), seed=seed) for seed in range(2)])
    assert session.run(images)[0].shape == (2, 40, 50)


def test_invalid_files_are_named(tmp_path: Path):
    for suffix, package in ((".onnx", "onnxruntime"), (".xml", "openvino"), (".pt2", "torch")):
        pytest.importorskip(package)
        path = tmp_path / f"broken{suffix}"
        path.write_bytes(b"not a network")
        with pytest.raises(WeightsError, match=f"broken{suffix}"):
            open_session(path, trusted=True)
