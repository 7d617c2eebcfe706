"""The kernels' build and loading: what is compiled, which library is chosen, and that damaged ones are not loaded."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils import cpp_extension

from fastfcn.kernels import build, loading


@pytest.mark.parametrize("processors", [None, 1, 2, 3, 1000])
def test_every_source_is_in_one_unit(tmp_path, monkeypatch, processors: int | None):
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    units = build._units(tmp_path)
    sources = sorted(str(path) for path in build.SOURCES.rglob("*.cpp"))
    assert len(units) == min(processors or 1, len(sources))
    assert sorted(name for unit in units for name in re.findall('#include "(.*)"', unit.read_text())) == sources


@pytest.mark.skipif(build.missing() != "", reason="there is no C++ compiler")
def test_all_sources_go_into_one_unit(tmp_path, monkeypatch):
    """No two sources define the same name differently."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    folders = [f"-I{folder}" for folder in [build.SOURCES, *cpp_extension.include_paths()]]
    command = [*build.compiler(), "-fsyntax-only", *build.FLAGS, *build.NATIVE.flags, *folders]
    command += map(str, build._units(tmp_path))
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A file and its checksum, as `build` writes them."""
    path = tmp_path / "kernels_0.so"
    path.write_bytes(bytes(range(256)) * 100)
    build.checksum_file(path).write_text(build._checksum(path))
    return path


def test_a_complete_library_is_intact(library: Path):
    assert build.is_intact(library)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[12345] ^= 4
    path.write_bytes(data)


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def remove(path: Path) -> None:
    path.unlink()


def no_checksum(path: Path) -> None:
    build.checksum_file(path).unlink()


def binary_checksum(path: Path) -> None:
    build.checksum_file(path).write_bytes(b"\xff\xfe\x00")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = [cut, empty, flip_one_bit, append, remove, no_checksum, binary_checksum, folder]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_library_is_not_intact(library: Path, damage):
    damage(library)
    assert not build.is_intact(library)


@pytest.mark.parametrize("damage", [cut, empty, flip_one_bit, no_checksum])
def test_a_damaged_library_is_built_again_and_never_loaded(library: Path, damage, monkeypatch):
    """Loading a truncated one would end the process (SIGBUS)."""
    built, loaded = [], []
    monkeypatch.setattr(loading, "_cache", lambda: library.parent)
    monkeypatch.setattr(build, "native_hash", lambda: "0")
    monkeypatch.setattr(build, "compile_library", lambda path, *settings: built.append(path))
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)
    assert loading._build() == ""
    assert (built, loaded) == ([], [library])
    damage(library)
    left_behind = library.parent / f"{build.BUILD_PREFIX}killed"
    left_behind.mkdir()
    assert loading._build() == ""
    assert (built, loaded) == ([library], [library, library])
    assert not left_behind.exists()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, ["c++"]),
        ("", ["c++"]),
        ("  ", ["c++"]),
        ('""', ["c++"]),
        ("g++-12", ["g++-12"]),
        (" ccache g++ ", ["ccache", "g++"]),
        ("ccache g++ -m64", ["ccache", "g++", "-m64"]),
        ("'my compiler' -O1", ["my compiler", "-O1"]),
    ],
)
def test_the_compiler_may_be_empty_or_have_arguments(value: str | None, words: list[str], monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    if value is not None:
        monkeypatch.setenv("CXX", value)
    assert build.compiler() == words


def test_the_compiler_may_be_a_path_with_spaces(tmp_path: Path, monkeypatch):
    program = tmp_path / "my tools" / "c++"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("CXX", str(program))
    assert build.compiler() == [str(program)]
    assert build.missing() == ""


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no-such-compiler -O2", "no C++ compiler 'no-such-compiler' found"),
        ("'g++", "CXX is not a valid command (no closing quotation): 'g++"),
    ],
)
def test_a_wrong_compiler_is_named(value: str, reason: str, monkeypatch):
    monkeypatch.setenv("CXX", value)
    assert build.missing() == reason


@pytest.mark.parametrize("relative", [False, True])
def test_torch_extensions_dir_is_obeyed(tmp_path: Path, relative: bool, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "wanted" if relative else str(tmp_path / "wanted"))
    assert loading._cache() == tmp_path / "wanted" / "fastfcn"
    assert loading._cache().is_dir()
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "")
    monkeypatch.setattr(cpp_extension, "get_default_build_root", lambda: str(tmp_path / "default"))
    assert loading._cache() == tmp_path / "default" / "fastfcn"


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("false"), reason="needs `false`")
@pytest.mark.parametrize("compiler", ["false", "false -O2"])
def test_a_failed_build_is_one_line(tmp_path: Path, compiler: str):
    code = "from fastfcn.kernels import available; print(available())"
    environment = os.environ | {"CXX": compiler, "TORCH_EXTENSIONS_DIR": str(tmp_path / "cache")}
    environment["FASTFCN_KERNELS"] = "build"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "False\n"
    assert "fast kernels are unavailable" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in (tmp_path / "cache" / "fastfcn").iterdir()] == ["lock"]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"flags": "fpu avx avx2"}, False),
        ({"compiler": "g++ 13.1"}, False),
        ({"torch": "2.99.0"}, False),
        ({"source": "0"}, False),
    ],
)
def test_the_cache_tells_builds_apart(change: dict[str, str], same: bool, monkeypatch):
    before = build.native_hash()
    for key, (owner, name) in {
        "flags": (build, "instructions"),
        "compiler": (build, "_compiler_version"),
        "source": (build, "source_hash"),
    }.items():
        if key in change:
            monkeypatch.setattr(owner, name, lambda value=change[key]: value)
    monkeypatch.setattr(torch, "__version__", change.get("torch", torch.__version__))
    assert (build.native_hash() == before) == same


def test_the_compiler_has_a_version():
    assert build.missing() or build._compiler_version()


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("2.15.0", "2.15"),
        ("2.15.1+cpu", "2.15"),
        ("2.11.0+cu130", "2.11"),
        ("2.16.0.dev20261201+cpu", "2.16.0.dev20261201+cpu"),
        ("2.15.0a0+git1234567", "2.15.0a0+git1234567"),
    ],
)
def test_releases_of_torch_with_one_abi(version: str, release: str, monkeypatch):
    monkeypatch.setattr(torch, "__version__", version)
    assert build.torch_release() == release


ON_X86 = pytest.mark.skipif(not build.X86, reason="of x86 CPUs")
AVX2 = "flags\t: fpu cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3 abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"
AVX512 = f"{AVX2} avx512f avx512bw avx512cd avx512dq avx512vl avx512_bf16"


@ON_X86
@pytest.mark.parametrize(
    ("instructions", "target"),
    [
        (AVX512, "x86-64-v4"),
        (AVX512.replace("avx512vl ", ""), "x86-64-v3"),
        (AVX2, "x86-64-v3"),
        (AVX2.replace(" fma", ""), None),
        (AVX2.replace("avx2 ", ""), None),
        ("", None),
    ],
)
def test_the_best_library_for_a_cpu(instructions: str, target: str | None, monkeypatch):
    monkeypatch.setattr(build, "instructions", lambda: instructions)
    assert getattr(build.best_bundled(), "name", None) == target


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch) -> Path:
    """A library of a wheel that suits this CPU and torch."""
    target = build.Target("any", ())
    monkeypatch.setattr(build, "BUNDLED", (target,))
    monkeypatch.setattr(loading, "BUNDLED", tmp_path)
    path = tmp_path / build.bundled_name(target)
    path.write_bytes(bytes(range(256)) * 100)
    build.checksum_file(path).write_text(build._checksum(path))
    return path


def loads(monkeypatch) -> list[Path]:
    """The libraries that are loaded from now on."""
    loaded = []
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)
    return loaded


def test_the_library_of_the_wheel_is_loaded(bundled: Path, monkeypatch):
    loaded = loads(monkeypatch)
    assert loading._load_bundled()
    assert loaded == [bundled]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_library_of_the_wheel_is_not_loaded(bundled: Path, damage, monkeypatch):
    loaded = loads(monkeypatch)
    damage(bundled)
    assert not loading._load_bundled()
    assert not loaded


@pytest.mark.parametrize(("name", "value"), [("torch_release", "2.99"), ("source_hash", "0"), ("best_bundled", None)])
def test_a_library_for_another_torch_source_or_cpu_is_not_loaded(bundled: Path, name: str, value, monkeypatch):
    loaded = loads(monkeypatch)
    monkeypatch.setattr(build, name, lambda: value)
    assert not loading._load_bundled()
    assert not loaded


def test_a_library_that_the_system_refuses_is_not_used(bundled: Path):
    assert not loading._load_bundled()  # it is no ELF file


def test_without_compiler_the_torch_of_the_wheel_is_named(bundled: Path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert loading._missing() == "no C++ compiler 'no-such-compiler' found"
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    own = f"the package's own kernels are for torch {bundled.name.split('_')[0].removeprefix('torch')}, not 2.99.0"
    assert loading._missing() == f"no C++ compiler 'no-such-compiler' found, and {own}"


def test_an_unknown_target_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(build, "missing", lambda: "")
    with pytest.raises(RuntimeError, match="no kernels for x86-64-v9; known: "):
        build.compile_bundled(tmp_path, ["x86-64-v9"])
