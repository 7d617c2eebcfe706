"""Build hook of hatchling: FASTFCN_BUILD_KERNELS=1 compiles the CPU kernels into the wheel.

Without it the wheel is plain Python, and its kernels are compiled on first use. They are compiled against the torch of
the environment, which `--no-build-isolation` makes visible:

    FASTFCN_BUILD_KERNELS=1 pip install --no-build-isolation .
"""

import importlib.util
import os
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SWITCH = "FASTFCN_BUILD_KERNELS"  # "1", or names of targets in kernels/build.py, such as "x86-64-v3"


class CustomBuildHook(BuildHookInterface):
    """Adds libraries to a wheel; an editable installation compiles its kernels on first use."""

    folder: tempfile.TemporaryDirectory | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        setting = os.environ.get(SWITCH, "").lower()
        if setting in ("", "0", "off", "no") or version == "editable":
            return
        names = [] if setting in ("1", "on", "yes") else setting.split(",")
        self.folder = tempfile.TemporaryDirectory()
        for path in _kernels_build(Path(self.root)).compile_bundled(Path(self.folder.name), names):
            build_data["force_include"][str(path)] = f"fastfcn/kernels/bundled/{path.name}"
        build_data["pure_python"] = False
        # Of any Python version: the libraries only use torch's C++ interface.
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self.folder:
            self.folder.cleanup()


def _kernels_build(root: Path) -> ModuleType:
    """Import `fastfcn.kernels.build` from its file. Raises RuntimeError if there is no torch to compile against."""
    spec = importlib.util.spec_from_file_location("kernels_build", root / "src/fastfcn/kernels/build.py")
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    try:
        spec.loader.exec_module(module)  # type: ignore[union-attr]
    except ModuleNotFoundError as error:
        raise RuntimeError(f"{SWITCH} needs torch: install it first, and use --no-build-isolation ({error})") from error
    return module
