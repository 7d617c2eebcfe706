"""ONNX files (.onnx): written by torch.onnx, run by ONNX Runtime."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from torch.export import ExportedProgram

from fastfcn.errors import UserError, WeightsError
from fastfcn.prediction.runtimes.base import Runtime, quiet_exporters

DIMENSIONS = ("batch", "height", "width")


def write(program: ExportedProgram, metadata: dict[str, str], path: Path) -> None:
    """Write `program` to one file, weights included, with `metadata` as its metadata_props."""
    import torch

    names = ["labels", "logits"][: len(program.graph_signature.user_outputs)]
    with quiet_exporters():
        exported: Any = torch.onnx.export(
            program, (), input_names=["image"], output_names=names, dynamo=True, verbose=False, external_data=False
        )
    model = exported.model_proto
    _name_dimensions(model.graph)
    for name, text in metadata.items():
        model.metadata_props.add(key=name, value=text)
    path.write_bytes(model.SerializeToString())


def _name_dimensions(graph: Any) -> None:
    """Replace torch's symbols for the free dimensions (s40, s62, s73) by batch, height and width in all shapes."""
    symbols = [dimension.dim_param for dimension in graph.input[0].type.tensor_type.shape.dim[:3]]
    names = dict(zip(symbols, DIMENSIONS, strict=True))
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = re.sub(r"\w+", lambda word: names.get(word[0], word[0]), dimension.dim_param)


class OnnxSession:
    """An ONNX file in ONNX Runtime on "cpu" or "cuda"."""

    def __init__(self, path: Path, device: str = "cpu"):
        import onnxruntime

        providers = ["CPUExecutionProvider"]
        if device.startswith("cuda"):
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise UserError(
                    f"Cannot run {path} on {device}: the installed ONNX Runtime has no CUDA support.",
                    "Install onnxruntime-gpu, or use --device cpu.",
                )
            providers.insert(0, "CUDAExecutionProvider")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            raise WeightsError(f"{path} is not a valid ONNX file: {error}", "Export it again.") from error
        self.metadata = dict(self.session.get_modelmeta().custom_metadata_map)

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Outputs for RGB uint8 images (B, H, W, 3); see `Session.run`."""
        return self.session.run(None, {"image": images})  # type: ignore[return-value]


RUNTIME = Runtime(
    name="onnx",
    title="ONNX Runtime",
    suffix=".onnx",
    write=write,
    open=OnnxSession,
    extra="onnx",
    writing_packages=("onnx", "onnxscript"),
    running_packages=("onnxruntime",),
    devices=("cpu", "cuda"),
)
