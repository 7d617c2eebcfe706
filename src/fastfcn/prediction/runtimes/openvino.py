"""OpenVINO's pair of files, NAME.xml and NAME.bin: converted from ONNX, run by OpenVINO on the processor."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch.export import ExportedProgram

from fastfcn.errors import WeightsError
from fastfcn.prediction.runtimes import onnx as onnx_file

SECTION = "fastfcn"  # of rt_info
CONTENTS = "contents"  # all texts once more, in one: what is read back here
# OpenVINO rounds to bfloat16 on processors that have it unless it is told not to: logits then differ by hundredths.
SETTINGS = {"INFERENCE_PRECISION_HINT": "f32"}


def write(program: ExportedProgram, texts: dict[str, str], path: Path) -> None:
    """Write `program` with `texts` in its rt_info; weights in float32."""
    save(convert(program), texts, path)


def convert(program: ExportedProgram) -> Any:
    """The program as an `openvino.Model`."""
    import openvino

    with TemporaryDirectory() as folder, onnx_file.quiet():
        through = Path(folder) / "model.onnx"
        onnx_file.write(program, {}, through)
        return openvino.convert_model(through)


def save(model: Any, texts: dict[str, str], path: Path) -> None:
    """Write an `openvino.Model`; the weights lie beside `path`, under the same name with .bin."""
    import openvino

    for name, text in texts.items():
        model.set_rt_info(text, [SECTION, name])
    model.set_rt_info(json.dumps(texts), [SECTION, CONTENTS])
    openvino.save_model(model, path, compress_to_fp16=False)


class OpenVinoSession:
    """A .xml file in OpenVINO on the processor, computed in float32 (int8 where the file says so)."""

    def __init__(self, path: Path):
        import openvino

        core = openvino.Core()
        try:
            model = core.read_model(path)
            self.compiled = core.compile_model(model, "CPU", SETTINGS)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise WeightsError(
                f"{path} is not an OpenVINO file, or {path.with_suffix('.bin').name} does not lie beside it: {reason}",
                "Keep both files together, or export again.",
            ) from error
        self.texts = json.loads(model.get_rt_info([SECTION, CONTENTS]).value) if model.has_rt_info(SECTION) else {}

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """What the program makes of RGB uint8 images (B, H, W, 3)."""
        found = self.compiled(images)
        return [found[index].copy() for index in range(len(self.compiled.outputs))]
