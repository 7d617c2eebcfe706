"""ONNX files: written by torch.onnx, run by ONNX Runtime."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch.export import ExportedProgram

from fastfcn.errors import UserError, WeightsError

DIMENSIONS = ("batch", "height", "width")
TALKATIVE = ("onnxscript", "onnx_ir", "torch.onnx", "torch.utils")


def write(program: ExportedProgram, texts: dict[str, str], path: Path) -> None:
    """Write `program` with `texts` as its metadata_props; weights and all in one file."""
    import torch

    names = ["labels", "logits"][: len(program.graph_signature.user_outputs)]
    with quiet():
        exported: Any = torch.onnx.export(
            program, (), input_names=["image"], output_names=names, dynamo=True, verbose=False, external_data=False
        )
    model = exported.model_proto
    _name_dimensions(model.graph)
    for name, text in texts.items():
        model.metadata_props.add(key=name, value=text)
    path.write_bytes(model.SerializeToString())


def _name_dimensions(graph: Any) -> None:
    """Batch, height and width by these names instead of s40, s62 and s73, wherever a shape is written."""
    given = [each.dim_param for each in graph.input[0].type.tensor_type.shape.dim[:3]]
    names = dict(zip(given, DIMENSIONS, strict=True))
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = re.sub(r"\w+", lambda word: names.get(word[0], word[0]), dimension.dim_param)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the remarks of exporters, which are for their authors."""
    loggers = [logging.getLogger(name) for name in TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class OnnxSession:
    """An ONNX file in ONNX Runtime on "cpu" or "cuda"."""

    def __init__(self, path: Path, device: str = "cpu"):
        import onnxruntime

        providers = ["CPUExecutionProvider"]
        if device.startswith("cuda"):
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise UserError(
                    f"This ONNX Runtime has no CUDA: {path} cannot run on {device}.",
                    "Use --device cpu, or install onnxruntime-gpu.",
                )
            providers.insert(0, "CUDAExecutionProvider")
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3  # errors
        try:
            self.session = onnxruntime.InferenceSession(path, settings, providers=providers)
        except Exception as error:  # its own kinds have no common one
            raise WeightsError(f"{path} is not an ONNX file, or is damaged: {error}", "Export it again.") from error
        self.texts = dict(self.session.get_modelmeta().custom_metadata_map)

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """What the program makes of RGB uint8 images (B, H, W, 3)."""
        return self.session.run(None, {"image": images})  # type: ignore[return-value]
