"""ONNX files (.onnx): written by torch.onnx, run by ONNX Runtime."""

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from fastfcn.errors import UserError, WeightsError
from fastfcn.prediction.runtimes.base import Runtime, quiet_exporters

if TYPE_CHECKING:  # torch takes a second to import, which reading metadata does not need
    from torch.export import ExportedProgram

DIMENSIONS = ("batch", "height", "width")
METADATA_PROPS = 14  # number of the field in ONNX's ModelProto; its entries have a key (1) and a value (2)
MAX_METADATA = 64 * 2**20  # bytes


def write(program: "ExportedProgram", metadata: dict[str, str], path: Path) -> None:
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


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata_props of an ONNX file, read without ONNX Runtime. Raises WeightsError."""
    try:
        with path.open("rb") as file:
            entries = [dict(_fields(BytesIO(entry), (1, 2))) for _, entry in _fields(file, (METADATA_PROPS,))]
        return {entry[1].decode(): entry[2].decode() for entry in entries}
    except (ValueError, KeyError, OSError) as error:
        raise WeightsError(f"{path} is not a valid ONNX file, or is damaged.", "Export it again.") from error


def _fields(file: BinaryIO, numbers: tuple[int, ...]) -> Iterator[tuple[int, bytes]]:
    """The fields with these numbers in a protobuf message; all others are skipped. Raises ValueError."""
    size = file.seek(0, 2)
    file.seek(0)
    while file.tell() < size:
        number, kind = divmod(_varint(file), 8)
        if kind == 0:
            _varint(file)
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"unknown wire type {kind}")
        length = _varint(file) if kind == 2 else {1: 8, 5: 4}[kind]
        if length > size - file.tell() or (number in numbers and length > MAX_METADATA):
            raise ValueError(f"a field of {length} bytes")
        if kind == 2 and number in numbers:
            yield number, file.read(length)
        else:
            file.seek(length, 1)


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("a number is cut short")


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
        """Outputs for images (B, H, W, C); see `Session.run`."""
        return self.session.run(None, {"image": images})  # type: ignore[return-value]


RUNTIME = Runtime(
    name="onnx",
    title="ONNX Runtime",
    suffix=".onnx",
    write=write,
    open=OnnxSession,
    read_metadata=read_metadata,
    extra="onnx",
    writing_packages=("onnx", "onnxscript"),
    running_packages=("onnxruntime",),
    devices=("cpu", "cuda"),
)
