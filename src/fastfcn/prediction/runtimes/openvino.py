"""OpenVINO files (NAME.xml with NAME.bin): converted from ONNX, run by OpenVINO on the CPU."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from fastfcn.errors import WeightsError
from fastfcn.prediction.runtimes import onnx
from fastfcn.prediction.runtimes.base import Runtime, quiet_exporters

if TYPE_CHECKING:  # torch takes a second to import, which reading metadata does not need
    from torch.export import ExportedProgram

SECTION = "fastfcn"  # section of the file's rt_info
CONTENTS = "contents"  # key of all metadata in one JSON string, which is what we read back
# By default OpenVINO computes in bfloat16 on CPUs that support it; logits would then differ by hundredths.
SETTINGS = {"INFERENCE_PRECISION_HINT": "f32"}


def write(program: "ExportedProgram", metadata: dict[str, str], path: Path) -> None:
    """Write `program` with float32 weights and with `metadata` in its rt_info."""
    save(convert(program), metadata, path)


def convert(program: "ExportedProgram") -> Any:
    """Convert a program to an `openvino.Model`."""
    import openvino

    with TemporaryDirectory() as folder, quiet_exporters():
        onnx_path = Path(folder) / "model.onnx"
        onnx.write(program, {}, onnx_path)
        return openvino.convert_model(onnx_path)


def save(model: Any, metadata: dict[str, str], path: Path) -> None:
    """Write an `openvino.Model` to `path`, and its weights to the .bin file of the same name."""
    import openvino

    for name, text in metadata.items():
        model.set_rt_info(text, [SECTION, name])
    model.set_rt_info(json.dumps(metadata), [SECTION, CONTENTS])
    openvino.save_model(model, path, compress_to_fp16=False)


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata in an .xml file, read without OpenVINO. Raises WeightsError."""
    try:
        contents = ElementTree.parse(path).find(f"rt_info/{SECTION}/{CONTENTS}")
        return json.loads(contents.get("value", "{}")) if contents is not None else {}
    except (ElementTree.ParseError, ValueError, OSError) as error:
        raise WeightsError(f"{path} is not a valid OpenVINO file, or is damaged.", "Export it again.") from error


class OpenVinoSession:
    """An .xml file in OpenVINO on the CPU, computed in float32 (in int8 where the file is quantized)."""

    def __init__(self, path: Path, device: str = "cpu"):
        import openvino

        core = openvino.Core()
        try:
            model = core.read_model(path)
            self.compiled = core.compile_model(model, device.upper(), SETTINGS)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            weights = path.with_suffix(".bin")
            problem = "not a valid OpenVINO file" if weights.is_file() else f"missing its weights {weights.name}"
            raise WeightsError(
                f"{path} is {problem}: {reason}", "Keep both files in one folder, or export again."
            ) from error
        self.metadata = json.loads(model.get_rt_info([SECTION, CONTENTS]).value) if model.has_rt_info(SECTION) else {}

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Outputs for images (B, H, W, C); see `Session.run`."""
        outputs = self.compiled(images)
        return [outputs[index].copy() for index in range(len(self.compiled.outputs))]


RUNTIME = Runtime(
    name="openvino",
    title="OpenVINO",
    suffix=".xml",
    companions=(".bin",),
    write=write,
    open=OpenVinoSession,
    read_metadata=read_metadata,
    extra="openvino",
    writing_packages=("onnx", "onnxscript"),
    running_packages=("openvino",),
    int8=True,
)
