"""The four formats: their names, suffixes, what they need, and who writes and runs them."""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from torch.export import ExportedProgram

from fastfcn.errors import MissingExtraError, UserError, WeightsError
from fastfcn.prediction.runtimes import aotinductor as pt2_file
from fastfcn.prediction.runtimes import executorch as executorch_file
from fastfcn.prediction.runtimes import onnx as onnx_file
from fastfcn.prediction.runtimes import openvino as openvino_file


class Format(NamedTuple):
    """`writing` and `running`: packages that each needs beside the dependencies; `extra` installs them."""

    title: str
    suffix: str
    extra: str
    writing: tuple[str, ...]
    running: tuple[str, ...]


FORMATS = {
    "onnx": Format("ONNX Runtime", ".onnx", "onnx", ("onnx", "onnxscript"), ("onnxruntime",)),
    "openvino": Format("OpenVINO", ".xml", "openvino", ("onnx", "onnxscript"), ("openvino",)),
    "pt2": Format("AOTInductor", ".pt2", "", (), ()),
    "executorch": Format("ExecuTorch", ".pte", "executorch", (), ("executorch",)),
}
SUFFIXES = {each.suffix: name for name, each in FORMATS.items()}


class Session(Protocol):
    """An exported file in its own runtime; `texts` are what it says of itself (contents.Contents)."""

    texts: dict[str, str]

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Labels, and logits if it has them, of RGB uint8 images (B, H, W, 3)."""
        ...


def check_format(name: str, out: Path, int8: bool = False) -> None:
    """Raises UserError for a format that is not there, or whose files end otherwise, and MissingExtraError."""
    if name not in FORMATS:
        raise UserError(f"There is no format {name!r}.", f"Choose one of {', '.join(FORMATS)}.")
    if int8 and name != "openvino":
        raise UserError("int8 is made for OpenVINO only.", "Add --format openvino.")
    if out.suffix != FORMATS[name].suffix:
        raise UserError(f"{out} does not end in {FORMATS[name].suffix}, as files of {FORMATS[name].title} do.")
    wanted = FORMATS[name]
    check_packages(name, (*wanted.running, *wanted.writing, *(("nncf",) if int8 else ())), "Writing")
    if name == "pt2":
        pt2_file.check_compiler()


def check_packages(name: str, packages: tuple[str, ...], doing: str) -> None:
    """Raises MissingExtraError for the first package that is not installed."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtraError(package, FORMATS[name].extra, f"{doing} {FORMATS[name].suffix} files")


def package_versions(name: str) -> dict[str, str]:
    """What writes and runs the format, with versions."""
    return {package: version(package) for package in ("torch", *FORMATS[name].writing, *FORMATS[name].running)}


def write(name: str, program: ExportedProgram, texts: dict[str, str], path: Path) -> None:
    """Write `program` with `texts` in the format `name`."""
    match name:
        case "onnx":
            onnx_file.write(program, texts, path)
        case "openvino":
            openvino_file.write(program, texts, path)
        case "pt2":
            pt2_file.write(program, texts, path)
        case "executorch":
            executorch_file.write(program, texts, path)


def open_session(path: Path, device: str = "auto", trusted: bool = False) -> Session:
    """The file in its runtime, which its suffix says.

    `trusted`: a .pt2 file holds native code that loading runs, so the caller has to say that it may. Raises
    WeightsError, MissingExtraError, and UserError for a device that the runtime does not use here.
    """
    if not path.is_file():
        raise WeightsError(f"There is no file {path}.", "Name a file that `fastfcn export` wrote.")
    name = SUFFIXES[path.suffix.lower()]
    check_packages(name, FORMATS[name].running, "Running")
    if device not in ("auto", "cpu") and not (name == "onnx" and device.startswith("cuda")):
        raise UserError(f"{path} runs on the processor, not on {device}.", "Choose cpu or auto, or an ONNX file.")
    match name:
        case "onnx":
            return onnx_file.OnnxSession(path, device)
        case "openvino":
            return openvino_file.OpenVinoSession(path)
        case "pt2":
            if not trusted:
                raise UserError(
                    f"{path} holds native code, which loading it would run.",
                    "If you trust where it comes from: fastfcn.load(path, trusted=True), or --trusted.",
                )
            return pt2_file.Pt2Session(path)
    return executorch_file.ExecuTorchSession(path)


def files_of(path: Path) -> list[Path]:
    """The files that make up an exported network."""
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
