"""AOTInductor packages (.pt2): compiled to native code by PyTorch, run by PyTorch on the CPU.

Loading a package runs the code in it. Its metadata can be read without that: it is a member of the zip archive.
"""

import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastfcn.errors import UserError, WeightsError
from fastfcn.prediction.runtimes.base import Runtime, quiet_exporters

if TYPE_CHECKING:  # torch takes a second to import, which reading metadata does not need
    from torch.export import ExportedProgram

MEMBER = "extra/fastfcn.json"  # the archive format reserves extra/ for users


def check_compiler() -> None:
    """Raise UserError if there is no C++ compiler."""
    compiler = os.environ.get("CXX", "g++")
    if not any(shutil.which(name) for name in (compiler, "clang++", "cl")):
        raise UserError("Writing a .pt2 file needs a C++ compiler, and none was found.", "Install g++, or set CXX.")


def write(program: "ExportedProgram", metadata: dict[str, str], path: Path) -> None:
    """Compile `program` and package it with `metadata`."""
    import torch

    with quiet_exporters():
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))  # type: ignore[attr-defined]
    with zipfile.ZipFile(path, "a") as archive:
        folder = archive.namelist()[0].split("/")[0]
        archive.writestr(f"{folder}/{MEMBER}", json.dumps(metadata))


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a package, read without running its code. Raises WeightsError."""
    try:
        with zipfile.ZipFile(path) as archive:
            member = next((name for name in archive.namelist() if name.endswith(MEMBER)), None)
            return json.loads(archive.read(member)) if member else {}
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise WeightsError(f"{path} is not a valid .pt2 package: {error}", "Export it again.") from error


class AOTInductorSession:
    """A .pt2 package in PyTorch, on the CPU that it was compiled for. Runs the native code in the file."""

    def __init__(self, path: Path, device: str = "cpu"):
        import torch

        self.metadata = read_metadata(path)
        try:
            self.program = torch._inductor.aoti_load_package(str(path))  # type: ignore[attr-defined]
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise WeightsError(f"{path} cannot be loaded: {reason}", "Export it again on this machine.") from error

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Outputs for images (B, H, W, C); see `Session.run`."""
        import torch

        with torch.inference_mode():
            return [output.numpy() for output in self.program(torch.from_numpy(images))]


RUNTIME = Runtime(
    name="pt2",
    title="AOTInductor",
    suffix=".pt2",
    write=write,
    open=AOTInductorSession,
    read_metadata=read_metadata,
    executes_code=True,
    tracing="backed",
    check_tools=check_compiler,
)
