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

SOURCES = Path(__file__).parent / "csrc"  # the include path; C++ files name each other from here
SWITCH = "FASTFCN_KERNELS"  # set to "off" to go without
# Loops and functions begin with a line of the cache: where they do not, a matrix product takes up to 2 % longer, some
# operators up to 3 %. GCC's tuning for AMD's processors keeps numbers that loops need in vectors' registers: up to 4 %
# slower (GCC 12 on Zen 5).
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
    """Whether the operators `torch.ops.fastfcn` are there; the first call builds them where they are not yet built.

    False, with one line on stderr that says why, where that is not possible; and in silence where the environment
    has FASTFCN_KERNELS=off.
    """
    if os.environ.get(SWITCH, "").lower() in ("off", "0", "no"):
        return False
    reason = _missing() or _build()
    if reason:
        print(
            f"fastfcn: no fast kernels, predictions and training take about twice as long ({reason})", file=sys.stderr
        )
        return False
    import fastfcn.kernels.operators  # noqa: F401 # what the operators are to torch.compile and torch.export

    return True


def _missing() -> str:
    """What is lacking for a build, or nothing."""
    if sys.platform == "win32":
        return "they are for Linux and macOS"
    compiler = os.environ.get("CXX", "c++")
    if not shutil.which(compiler.split()[0]):
        return f"there is no C++ compiler {compiler!r}"
    return ""


def _build() -> str:
    """Build where needed, and load; returns why it failed, or nothing."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it speaks of CUDA, which is not needed
    import fcntl  # not on Windows

    from torch.utils import cpp_extension

    try:
        cache = Path(cpp_extension.get_default_build_root()) / "fastfcn"
        cache.mkdir(parents=True, exist_ok=True)
        library = cache / f"kernels_{_fingerprint()}.so"
        with (cache / "lock").open("w") as lock:
            # One process builds, others wait; the system lets go of the lock of one that was killed.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if library.exists():
                torch.ops.load_library(library)
            else:
                _compile(library)
    except (RuntimeError, OSError, ImportError, subprocess.SubprocessError) as error:
        return _reason(str(error))
    return ""


def _reason(message: str) -> str:
    """The line of a compiler's output that tells what is wrong, else the first."""
    lines = message.strip().splitlines()
    return next((line.strip() for line in lines if "error:" in line), lines[0])


def _compile(library: Path) -> None:
    """Build `library`, which is there whole or not at all, and load it."""
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
    """All sources, joined into one file in `folder` for each processor.

    Each compilation first reads torch's headers, which takes longer than most sources do.
    """
    sources = sorted(SOURCES.rglob("*.cpp"), key=lambda path: path.stat().st_size, reverse=True)
    count = min(os.cpu_count() or 1, len(sources))
    units = [folder / f"unit_{index}.cpp" for index in range(count)]
    for index, unit in enumerate(units):
        unit.write_text("".join(f'#include "{source}"\n' for source in sources[index::count]))
    return [str(unit) for unit in units]


def _ninja_folder() -> str:
    """Where the `ninja` of this environment lies, which need not be on the PATH."""
    import ninja

    return ninja.BIN_DIR


def _fingerprint() -> str:
    """Of everything a build depends on: another machine with the same home folder gets a build of its own."""
    about = [torch.__version__, platform.machine(), sys.platform, os.environ.get("CXX", ""), *FLAGS, _instructions()]
    sources = sorted([*SOURCES.rglob("*.cpp"), *SOURCES.rglob("*.h")])
    digest = hashlib.sha256("\n".join(about).encode())
    for path in sources:
        digest.update(str(path.relative_to(SOURCES)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _instructions() -> str:
    """The instructions that the processor has, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + torch.backends.cpu.get_cpu_capability()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
