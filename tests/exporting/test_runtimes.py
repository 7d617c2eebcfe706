"""The other runtimes, on a network of three convolutions."""

from pathlib import Path

import numpy as np
import pytest
from torch.export import ExportedProgram

from fastfcn.errors import UserError, WeightsError
from fastfcn.exporting import int8
from fastfcn.exporting.network import trace, trace_assuming
from fastfcn.exporting.verification import Proof, Trial, expected, picture, prove
from fastfcn.prediction.runtimes import aotinductor as pt2_file
from fastfcn.prediction.runtimes import formats
from fastfcn.prediction.runtimes import openvino as openvino_file
from fastfcn.prediction.runtimes.contents import Contents, read_contents
from fastfcn.prediction.runtimes.formats import Session, open_session
from fastfcn.weights.file import read
from tests.exporting.small import SmallNetwork
from tests.helpers.tiny import save_picture, tiny_recipe

SIZES = ((61, 83), (128, 17), (33, 130), (1, 1))


@pytest.fixture(scope="module")
def texts(weights_file: Path) -> dict[str, str]:
    held = read(weights_file)
    return Contents(held.recipe, held.description, logits=True, largest=(160, 160)).texts()


@pytest.fixture(scope="module")
def program() -> ExportedProgram:
    return trace(SmallNetwork(), tiny_recipe(), with_logits=True)


def proof_of(session: Session, model: SmallNetwork) -> Proof:
    trial = Trial(session, session, lambda images: expected(model, tiny_recipe(), images))
    return Proof("any", "network", 0.0, tuple(prove(model, tiny_recipe(), trial, SIZES)))


def test_openvino_agrees_and_keeps_its_texts(program: ExportedProgram, texts: dict[str, str], tmp_path: Path):
    pytest.importorskip("openvino")
    pytest.importorskip("onnxscript")
    model, path = SmallNetwork(), tmp_path / "model.xml"
    formats.write("openvino", program, texts, path)
    session = open_session(path)
    assert session.texts == texts
    assert proof_of(session, model).failures() == []
    path.with_suffix(".bin").unlink()
    with pytest.raises(WeightsError, match=r"model\.bin does not lie beside it"):
        open_session(path)


def test_int8_rounds_convolutions(program: ExportedProgram, texts: dict[str, str], tmp_path: Path):
    pytest.importorskip("nncf")
    pytest.importorskip("onnxscript")
    images = [save_picture(tmp_path / "photos" / f"{seed}.png", picture((48, 64), seed=seed)) for seed in range(3)]
    assert int8.calibration_images(tmp_path / "photos") == images
    model = SmallNetwork()
    rounded = int8.quantized(openvino_file.convert(program), images)
    assert "FakeQuantize" in {each.get_type_name() for each in rounded.get_ops()}
    openvino_file.save(rounded, texts, tmp_path / "model.xml")
    found = proof_of(open_session(tmp_path / "model.xml"), model)
    differences = [result.difference for result in found.results]
    assert max(differences) > 2e-3
    assert found.failures()
    assert all(result.agreement > 0.5 for result in found.results)


def test_pt2_runs_only_what_is_trusted(texts: dict[str, str], tmp_path: Path):
    model, path = SmallNetwork(), tmp_path / "model.pt2"
    pt2_file.check_compiler()
    formats.write("pt2", trace_assuming(model, tiny_recipe(), True), texts, path)
    assert pt2_file.read_texts(path) == texts
    with pytest.raises(UserError, match="native code"):
        open_session(path)
    assert proof_of(open_session(path, trusted=True), model).failures() == []


def test_executorch_takes_sizes_up_to_its_bound(texts: dict[str, str], tmp_path: Path):
    pytest.importorskip("executorch")
    model, path = SmallNetwork(), tmp_path / "model.pte"
    formats.write("executorch", trace_assuming(model, tiny_recipe(), True, (160, 160)), texts, path)
    session = open_session(path)
    assert read_contents(session.texts, path).largest == (160, 160)
    assert proof_of(session, model).failures() == []
    images = np.stack([picture((40, 50), seed=seed) for seed in range(2)])
    assert session.run(images)[0].shape == (2, 40, 50)


def test_damaged_files_are_named(tmp_path: Path):
    for suffix, package in ((".onnx", "onnxruntime"), (".xml", "openvino"), (".pt2", "torch")):
        pytest.importorskip(package)
        path = tmp_path / f"broken{suffix}"
        path.write_bytes(b"not a network")
        with pytest.raises(WeightsError, match=f"broken{suffix}"):
            open_session(path, trusted=True)
