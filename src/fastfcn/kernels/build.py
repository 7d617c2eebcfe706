"""Compile the C++ files in `csrc`, once per machine, and load their operators into torch."""

import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache as once
from pathlib import Path

import torch

SOURCES = Path(__file__).parent / "csrc"  # also the include path
SWITCH = "FASTFCN_KERNELS"  # set to "off" to use plain PyTorch
BUILD_PREFIX = "building_"  # of temporary folders in the cache
# Loops and functions are aligned to cache lines: otherwise matrix products take up to 2 % longer, some operators up to
# 3 %. GCC's tuning for AMD processors keeps loop counters in vector registers, which costs up to 4 % (GCC 12, Zen 5).
FLAGS = (
    "-std=c++20",  # torch 2.11 asks for C++17; of two the last counts
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
    try:
        program = _compiler()[0]
    except ValueError as error:
        return f"CXX is not a valid command ({str(error).lower()}): {os.environ['CXX']}"
    return "" if shutil.which(program) else f"no C++ compiler {program!r} found"


def _compiler() -> list[str]:
    """Return the words of the compiler's command: CXX, which may have arguments ("ccache g++"), or `c++`.

    Raises ValueError if CXX has an unclosed quote.
    """
    command = os.environ.get("CXX", "").strip()
    if shutil.which(command):  # also a path with spaces
        return [command]
    return [word for word in shlex.split(command) if word] or ["c++"]


def _build() -> str:
    """Build the library if it is not cached, and load it; return why that failed, or an empty string."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns about CUDA, which is not needed
    try:
        library = _cache() / f"kernels_{_fingerprint()}.so"
        if _is_intact(library) or not _compile_once(library):
            torch.ops.load_library(library)
    except (RuntimeError, OSError, ImportError, ValueError, subprocess.SubprocessError) as error:
        return _reason(error)
    return ""


def _cache() -> Path:
    """Return the folder of built libraries, in torch's extension folder; it is created."""
    from torch.utils import cpp_extension

    root = os.environ.get("TORCH_EXTENSIONS_DIR") or cpp_extension.get_default_build_root()
    cache = Path(root).resolve() / "fastfcn"  # the compiler runs in another folder
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def _compile_once(library: Path) -> bool:
    """Build and load `library`, unless another process does so meanwhile; return whether this one did."""
    import fcntl  # not on Windows

    with (library.parent / "lock").open("w") as lock:
        # One process builds, others wait; the system releases the lock of a process that was killed.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_intact(library):
            return False
        for folder in library.parent.glob(f"{BUILD_PREFIX}*"):  # of processes that were killed
            shutil.rmtree(folder, ignore_errors=True)
        _compile(library)
    return True


def _is_intact(library: Path) -> bool:
    """Return whether the file is complete: the system kills a process that loads a truncated library (SIGBUS)."""
    try:
        return _checksum_file(library).read_text() == _checksum(library)
    except (OSError, ValueError):
        return False


def _checksum_file(library: Path) -> Path:
    return library.with_suffix(".sha256")


def _checksum(library: Path) -> str:
    """Return size and SHA-256 of a file."""
    data = library.read_bytes()
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}\n"


def _reason(error: Exception) -> str:
    """Return the line of a compiler's output that contains the error, or the first line, at most 200 characters."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return next((line.strip() for line in lines if "error:" in line), lines[0])[:200]


def _compile(library: Path) -> None:
    """Build and load `library`; it appears in the cache, with its checksum, only when it is complete."""
    from torch.utils import cpp_extension

    print("fastfcn: building fast kernels; this takes about a minute, once", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix=BUILD_PREFIX, dir=library.parent) as folder:
        with _compiler_environment(Path(folder)):
            cpp_extension.load(
                library.stem,
                _units(Path(folder)),
                extra_cflags=[*FLAGS, *(["-fopenmp"] if sys.platform == "linux" else [])],
                extra_include_paths=[str(SOURCES)],
                build_directory=folder,
                is_python_module=False,
            )
        built = Path(folder) / f"{library.stem}.so"
        _checksum_file(built).write_text(_checksum(built))
        for path in (built, _checksum_file(built)):
            path.replace(library.with_name(path.name))


@contextmanager
def _compiler_environment(folder: Path) -> Iterator[None]:
    """Let torch find `ninja`, and the compiler if CXX is empty, has arguments, or is a path with spaces.

    torch takes CXX as one word (2.15) or as several (earlier), so that it is given a script in `folder`, by its name.
    """
    before = dict(os.environ)
    script = folder / "compiler"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(_compiler())} "$@"\n')
    script.chmod(0o755)
    os.environ["PATH"] = os.pathsep.join([str(folder), _ninja_folder(), before.get("PATH", "")])
    os.environ["CXX"] = script.name
    try:
        yield
    finally:
        for name in ("PATH", "CXX"):
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]


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
    compiler = shlex.join(_compiler())
    settings = [torch.__version__, platform.machine(), sys.platform, compiler, *FLAGS, _instructions()]
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
