"""One ONNX file of the tiny network, shared by the tests because torch.onnx takes seconds."""

from pathlib import Path

import pytest

from fastfcn.exporting.export import ExportResult, ExportSettings, export


@pytest.fixture(scope="session")
def report(weights_file: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """The export of an ONNX file with logits, verified at small sizes."""
    pytest.importorskip("onnxruntime")
    out = tmp_path_factory.mktemp("exported") / "model.onnx"
    return export(weights_file, "onnx", out, ExportSettings(logits=True, sizes=((61, 83), (17, 40))))
