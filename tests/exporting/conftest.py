"""One ONNX file of the tiny network for all that read one; torch.onnx takes seconds."""

from pathlib import Path

import pytest

from fastfcn.exporting.export import Report, Settings, export


@pytest.fixture(scope="session")
def report(weights_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Of an ONNX file with logits, small sizes proven."""
    pytest.importorskip("onnxruntime")
    out = tmp_path_factory.mktemp("exported") / "model.onnx"
    return export(weights_file, "onnx", out, Settings(logits=True, sizes=((61, 83), (17, 40))))
