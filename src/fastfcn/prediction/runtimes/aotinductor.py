"""AOTInductor packages, .pt2: compiled to native code by PyTorch, run by PyTorch.

Loading one runs the code in it. Its texts can be read without that: they are a member of the zip archive.
"""

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch.export import ExportedProgram

from fastfcn.errors import UserError, WeightsError
from fastfcn.prediction.runtimes.onnx import quiet

MEMBER = "extra/fastfcn.json"  # the archive format keeps extra/ for users


def check_compiler() -> None:
    """Raises UserError where there is no C++ compiler."""
    wanted = os.environ.get("CXX", "g++")
    if not any(shutil.which(name) for name in (wanted, "clang++", "cl")):
        raise UserError("A .pt2 file is compiled, and there is no C++ compiler here.", "Install g++ or set CXX.")


def write(program: ExportedProgram, texts: dict[str, str], path: Path) -> None:
    """Compile `program` and pack it together with `texts`."""
    with quiet():
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))  # type: ignore[attr-defined]
    with zipfile.ZipFile(path, "a") as archive:
        folder = archive.namelist()[0].split("/")[0]
        archive.writestr(f"{folder}/{MEMBER}", json.dumps(texts))


def read_texts(path: Path) -> dict[str, str]:
    """The texts of a package; nothing in it is run. Raises WeightsError."""
    try:
        with zipfile.ZipFile(path) as archive:
            member = next((name for name in archive.namelist() if name.endswith(MEMBER)), None)
            return json.loads(archive.read(member)) if member else {}
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise WeightsError(f"{path} is not a .pt2 package, or is damaged: {error}", "Export it again.") from error


class Pt2Session:
    """A package in PyTorch, on the processor it was compiled for. Runs the native code in the file."""

    def __init__(self, path: Path):
        self.texts = read_texts(path)
        try:
            self.program = torch._inductor.aoti_load_package(str(path))  # type: ignore[attr-defined]
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise WeightsError(f"{path} cannot be loaded: {reason}", "Export it again on this machine.") from error

    @torch.inference_mode()
    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """What the program makes of RGB uint8 images (B, H, W, 3)."""
        return [each.numpy() for each in self.program(torch.from_numpy(images))]
