"""Compile the C++ files in `csrc` into a library, for this CPU or for those of a wheel.

`hatch_build.py` runs this file by its path, while fastfcn is not installed yet: it imports nothing of the package.
"""

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import torch

SOURCES = Path(__file__).parent / "csrc"  # also the include path
BUILD_PREFIX = "building_"  # of temporary folders
# Loops and functions are aligned to cache lines: otherwise matrix products take up to 2 % longer, some operators up to
# 3 %.
FLAGS = (
    "-std=c++20",
    "-O3",
    "-fPIC",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-ffp-contract=fast",
    "-falign-loops=64",
    "-falign-functions=64",
    *(["-fopenmp"] if sys.platform == "linux" else []),
)


class Target(NamedTuple):
    """A kind of CPU to compile for."""

    name: str
    flags: tuple[str, ...]
    needs: frozenset[str] = frozenset()  # instruction sets, as /proc/cpuinfo names them


def _x86(name: str, instructions: str) -> Target:
    # GCC's tuning for AMD processors keeps loop counters in vector registers, which costs up to 4 % (GCC 12, Zen 5).
    return Target(name, (f"-march={name}", "-mtune=haswell"), frozenset(instructions.split()))


X86 = platform.machine().lower() in ("x86_64", "amd64")
NATIVE = _x86("native", "") if X86 else Target("native", ("-march=native",))
_V3 = "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3 abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"
# Of the libraries in a wheel, the best first.
if X86:
    BUNDLED = (_x86("x86-64-v4", f"{_V3} avx512f avx512bw avx512cd avx512dq avx512vl"), _x86("x86-64-v3", _V3))
elif platform.machine().lower() in ("aarch64", "arm64"):
    BUNDLED = (Target("armv8-a", ("-march=armv8-a",)),)
else:
    BUNDLED = ()


def missing() -> str:
    """Return what a build would lack, or an empty string."""
    if sys.platform == "win32":
        return "only Linux and macOS are supported"
    try:
        program = compiler()[0]
    except ValueError as error:
        return f"CXX is not a valid command ({str(error).lower()}): {os.environ['CXX']}"
    return "" if shutil.which(program) else f"no C++ compiler {program!r} found"


def compiler() -> list[str]:
    """Return the words of the compiler's command: CXX, which may have arguments ("ccache g++"), or `c++`.

    Raises ValueError if CXX has an unclosed quote.
    """
    command = os.environ.get("CXX", "").strip()
    if shutil.which(command):  # also a path with spaces
        return [command]
    return [word for word in shlex.split(command) if word] or ["c++"]


def compile_bundled(folder: Path, names: Iterable[str] = ()) -> list[Path]:
    """Compile the libraries of a wheel into `folder`: all of BUNDLED, or those with these names.

    Returns the files to include. Raises RuntimeError, with a reason, if a library cannot be built.
    """
    if reason := missing():
        raise RuntimeError(reason)
    known = {target.name: target for target in BUNDLED}
    if unknown := set(names) - set(known):
        raise RuntimeError(f"no kernels for {', '.join(sorted(unknown))}; known: {', '.join(known) or 'none'}")
    files = []
    for target in [known[name] for name in names] or BUNDLED:
        library = folder / bundled_name(target)
        # GCC's OpenMP is not linked: its symbols come from the copy that torch brings, as the system may have none.
        compile_library(library, target, ["-s"])
        files += [library, checksum_file(library)]
    return files


def bundled_name(target: Target) -> str:
    """Return the file name of a library in a wheel; a changed source or another torch is another name."""
    return f"torch{torch_release()}_{target.name}_{source_hash()}.so"


def torch_release() -> str:
    """Return torch's release up to its minor number, such as "2.15", which have one ABI; all of another version."""
    match = re.fullmatch(r"(\d+\.\d+)\.\d+(\+(cpu|cu\d+|rocm[\d.]+|xpu))?", str(torch.__version__))
    return match[1] if match else str(torch.__version__)


def compile_library(library: Path, target: Target, link_flags: Iterable[str] = ()) -> None:
    """Compile all sources into `library`; it appears, with its checksum, only when it is complete.

    Raises RuntimeError with the compiler's output.
    """
    from torch.utils import cpp_extension

    includes = [f"-I{folder}" for folder in [SOURCES, *cpp_extension.include_paths()]]
    with tempfile.TemporaryDirectory(prefix=BUILD_PREFIX, dir=library.parent) as name:
        folder = Path(name)
        objects = [(unit, unit.with_suffix(".o")) for unit in _units(folder)]
        with ThreadPoolExecutor(len(objects)) as threads:
            flags = [*FLAGS, *target.flags, *includes]
            list(threads.map(lambda files: _compiler_run([*flags, "-c", str(files[0]), "-o", str(files[1])]), objects))
        built = folder / library.name
        libraries = [f"-L{path}" for path in cpp_extension.library_paths()] + ["-ltorch", "-ltorch_cpu", "-lc10"]
        _compiler_run(["-shared", *(str(path) for _, path in objects), "-o", str(built), *libraries, *link_flags])
        checksum_file(built).write_text(_checksum(built))
        for path in (built, checksum_file(built)):
            path.replace(library.with_name(path.name))


def _compiler_run(arguments: list[str]) -> None:
    done = subprocess.run([*compiler(), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout.strip() or f"{compiler()[0]} failed with exit status {done.returncode}")


def _units(folder: Path) -> list[Path]:
    """Join all sources into one translation unit per CPU core, written to `folder`.

    Parsing torch's headers takes longer than compiling most sources.
    """
    sources = sorted(SOURCES.rglob("*.cpp"), key=lambda path: path.stat().st_size, reverse=True)
    count = min(os.cpu_count() or 1, len(sources))
    units = [folder / f"unit_{index}.cpp" for index in range(count)]
    for index, unit in enumerate(units):
        unit.write_text("".join(f'#include "{source}"\n' for source in sources[index::count]))
    return units


def is_intact(library: Path) -> bool:
    """Return whether the file is complete: the system kills a process that loads a truncated library (SIGBUS)."""
    try:
        return checksum_file(library).read_text() == _checksum(library)
    except (OSError, ValueError):
        return False


def checksum_file(library: Path) -> Path:
    """Return the path of the file with a library's checksum."""
    return library.with_name(library.name + ".sha256")


def _checksum(library: Path) -> str:
    """Return size and SHA-256 of a file."""
    data = library.read_bytes()
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}\n"


def native_hash() -> str:
    """Hash everything that a build for this CPU depends on: machines that share a home folder get separate builds."""
    machine = [platform.machine(), sys.platform, instructions()]
    settings = [str(torch.__version__), *machine, shlex.join(compiler()), _compiler_version(), *FLAGS, *NATIVE.flags]
    return _hash("\n".join(settings).encode(), source_hash().encode())


def source_hash() -> str:
    """Hash all C++ files."""
    paths = sorted([*SOURCES.rglob("*.cpp"), *SOURCES.rglob("*.h")])
    parts = ([path.relative_to(SOURCES).as_posix().encode(), path.read_bytes()] for path in paths)
    return _hash(*chain.from_iterable(parts))


def _hash(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:16]


def _compiler_version() -> str:
    done = subprocess.run([*compiler(), "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout.partition("\n")[0]


def best_bundled() -> Target | None:
    """Return the target of BUNDLED that suits this CPU best, or None."""
    present = set(instructions().split())
    return next((target for target in BUNDLED if target.needs <= present), None)


def instructions() -> str:
    """Return the CPU's instruction sets, as far as the system reports them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + torch.backends.cpu.get_cpu_capability()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
