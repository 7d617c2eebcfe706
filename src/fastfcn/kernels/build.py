"""Compile the C++ files in `csrc`, once per machine, and load their operators into torch."""

import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache as once
from pathlib import Path

import torch

SOURCES = Path(__file__).parent / "csrc"  # also the include path
SWITCH = "FASTFCN_KERNELS"  # set to "off" to use plain PyTorch
# Loops and functions are aligned to cache lines: otherwise matrix products take up to 2 % longer, some operators up to
# 3 %. GCC's tuning for AMD processors keeps loop counters in vector registers, which costs up to 4 % (GCC 12, Zen 5).
FLAGS = (
    "-O3",
    "-march=native",
    *(["-mtune=haswell"] if platform.machine().lower() in ("x86_64", "amd64") else []),
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-ffp-contract=fast",
    "-falign-loops=64",
    "-falign-functions=64",
)


@once
def available() -> bool:
    """Return whether the operators `torch.ops.fastfcn` can be used; the first call builds or loads them.

    False, with a one-line reason on stderr, if they cannot be built; silently False if FASTFCN_KERNELS=off is set.
    """
    if os.environ.get(SWITCH, "").lower() in ("off", "0", "no"):
        return False
    reason = _missing() or _build()
    if reason:
        print(
            f"fastfcn: fast kernels are unavailable ({reason}); prediction and training take about twice as long",
            file=sys.stderr,
        )
        return False
    import fastfcn.kernels.operators  # noqa: F401 # defines the operators whose CPU kernels were loaded

    return True


def _missing() -> str:
    """Return what a build would lack, or an empty string."""
    if sys.platform == "win32":
        return "only Linux and macOS are supported"
    compiler = os.environ.get("CXX", "c++")
    if not shutil.which(compiler.split()[0]):
        return f"no C++ compiler {compiler!r} found"
    return ""


def _build() -> str:
    """Build the library if it is not cached, and load it; return why that failed, or an empty string."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns about CUDA, which is not needed
    import fcntl  # not on Windows

    from torch.utils import cpp_extension

    try:
        cache = Path(cpp_extension.get_default_build_root()) / "fastfcn"
        cache.mkdir(parents=True, exist_ok=True)
        library = cache / f"kernels_{_fingerprint()}.so"
        with (cache / "lock").open("w") as lock:
            # One process builds, others wait; the system releases the lock of a process that was killed.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if library.exists():
                torch.ops.load_library(library)
            else:
                _compile(library)
    except (RuntimeError, OSError, ImportError, subprocess.SubprocessError) as error:
        return _reason(str(error))
    return ""


def _reason(message: str) -> str:
    """Return the line of a compiler's output that contains the error, or the first line."""
    lines = message.strip().splitlines()
    return next((line.strip() for line in lines if "error:" in line), lines[0])


def _compile(library: Path) -> None:
    """Build and load `library`; it appears in the cache only when it is complete."""
    from torch.utils import cpp_extension

    print("fastfcn: building fast kernels; this takes about a minute, once", file=sys.stderr)
    search = os.environ.get("PATH", "")
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        try:
            os.environ["PATH"] = os.pathsep.join([_ninja_folder(), search])
            cpp_extension.load(
                library.stem,
                _units(Path(folder)),
                extra_cflags=[*FLAGS, *(["-fopenmp"] if sys.platform == "linux" else [])],
                extra_include_paths=[str(SOURCES)],
                build_directory=folder,
                is_python_module=False,
            )
        finally:
            os.environ["PATH"] = search
        (Path(folder) / f"{library.stem}.so").replace(library)


def _units(folder: Path) -> list[str]:
    """Join all sources into one translation unit per CPU core, written to `folder`.

    Parsing torch's headers takes longer than compiling most sources.
    """
    sources = sorted(SOURCES.rglob("*.cpp"), key=lambda path: path.stat().st_size, reverse=True)
    count = min(os.cpu_count() or 1, len(sources))
    units = [folder / f"unit_{index}.cpp" for index in range(count)]
    for index, unit in enumerate(units):
        unit.write_text("".join(f'#include "{source}"\n' for source in sources[index::count]))
    return [str(unit) for unit in units]


def _ninja_folder() -> str:
    """Return the folder of this environment's `ninja`, which may not be on the PATH."""
    import ninja

    return ninja.BIN_DIR


def _fingerprint() -> str:
    """Hash everything a build depends on: machines that share a home folder get separate builds."""
    settings = [torch.__version__, platform.machine(), sys.platform, os.environ.get("CXX", ""), *FLAGS, _instructions()]
    digest = hashlib.sha256("\n".join(settings).encode())
    for path in sorted([*SOURCES.rglob("*.cpp"), *SOURCES.rglob("*.h")]):
        digest.update(str(path.relative_to(SOURCES)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _instructions() -> str:
    """Return the CPU's instruction sets, as far as the system reports them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + torch.backends.cpu.get_cpu_capability()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
