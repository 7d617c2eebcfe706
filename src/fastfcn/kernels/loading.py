"""Load the compiled kernels into torch: those of the wheel, or ones that are compiled once per machine."""

import logging
import os
import shutil
import subprocess
import sys
from functools import cache as once
from pathlib import Path

import torch

from fastfcn.errors import first_line
from fastfcn.kernels import build

SWITCH = "FASTFCN_KERNELS"  # "off": use plain PyTorch; "build": compile for this CPU, whatever the wheel contains
BUNDLED = Path(__file__).parent / "bundled"  # libraries that a wheel contains


@once
def available() -> bool:
    """Return whether the operators `torch.ops.fastfcn` can be used; the first call loads or builds them.

    False, with a one-line reason on stderr, if they cannot be built; silently False if FASTFCN_KERNELS=off is set.
    """
    if is_off(SWITCH):
        return False
    compile_here = os.environ.get(SWITCH, "").lower() == "build"
    reason = "" if not compile_here and _load_bundled() else _missing() or _build()
    if reason:
        print(
            f"fastfcn: fast kernels are unavailable ({reason}); prediction and training take about twice as long",
            file=sys.stderr,
        )
        return False
    import fastfcn.kernels.operators  # noqa: F401 # defines the operators whose CPU kernels were loaded

    return True


def is_off(variable: str) -> bool:
    """Return whether an environment variable is "off", "0" or "no"."""
    return os.environ.get(variable, "").lower() in ("off", "0", "no")


def _load_bundled() -> bool:
    """Load the wheel's library for this CPU, torch and source, if there is one; return whether that succeeded."""
    target = build.best_bundled() if BUNDLED.is_dir() else None
    library = target and BUNDLED / build.bundled_name(target)
    if not library or not build.is_intact(library):
        return False
    try:
        torch.ops.load_library(library)
    except (RuntimeError, OSError):  # such as a system with an older C library
        return False
    return True


def _missing() -> str:
    """Return what a build would lack, and which torch the wheel's libraries need; or an empty string."""
    reason = build.missing()
    releases = sorted({path.name.partition("_")[0].removeprefix("torch") for path in BUNDLED.glob("torch*.so")})
    if reason and releases and build.torch_release() not in releases:
        reason += f", and the package's own kernels are for torch {', '.join(releases)}, not {torch.__version__}"
    return reason


def _build() -> str:
    """Build the library if it is not cached, and load it; return why that failed, or an empty string."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns about CUDA, which is not needed
    try:
        library = _cache() / f"kernels_{build.native_hash()}.so"
        if not build.is_intact(library):
            _compile_once(library)
        torch.ops.load_library(library)
    except (RuntimeError, OSError, ImportError, ValueError, subprocess.SubprocessError) as error:
        return _reason(error)
    return ""


def _cache() -> Path:
    """Return the folder of built libraries, in torch's extension folder; it is created."""
    from torch.utils import cpp_extension

    root = os.environ.get("TORCH_EXTENSIONS_DIR") or cpp_extension.get_default_build_root()
    cache = Path(root).resolve() / "fastfcn"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def _compile_once(library: Path) -> None:
    """Build `library`, unless another process does so meanwhile."""
    import fcntl  # not on Windows

    with (library.parent / "lock").open("w") as lock:
        # One process builds, others wait; the system releases the lock of a process that was killed.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if build.is_intact(library):
            return
        for folder in library.parent.glob(f"{build.BUILD_PREFIX}*"):  # of processes that were killed
            shutil.rmtree(folder, ignore_errors=True)
        print("fastfcn: building fast kernels; this takes about a minute, once", file=sys.stderr)
        build.compile_library(library, build.NATIVE, ["-fopenmp"] if sys.platform == "linux" else [])


def _reason(error: Exception) -> str:
    """Return the line of a compiler's output that contains the error, or the first line, at most 200 characters."""
    lines = str(error).splitlines()
    return next((line.strip() for line in lines if "error:" in line), first_line(error))[:200]
