"""The kernels' build: every source is compiled once, and all sources fit one translation unit."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils import cpp_extension

from fastfcn.kernels import build


@pytest.mark.parametrize("processors", [None, 1, 2, 3, 1000])
def test_every_source_is_in_one_unit(tmp_path, monkeypatch, processors: int | None):
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    units = build._units(tmp_path)
    sources = sorted(str(path) for path in build.SOURCES.rglob("*.cpp"))
    assert len(units) == min(processors or 1, len(sources))
    assert sorted(name for unit in units for name in re.findall('#include "(.*)"', Path(unit).read_text())) == sources


@pytest.mark.skipif(build._missing() != "", reason="there is no C++ compiler")
def test_all_sources_go_into_one_unit(tmp_path, monkeypatch):
    """No two sources define the same name differently; torch 2.11 asks for C++17, which our flags override."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    folders = [f"-I{folder}" for folder in [build.SOURCES, *cpp_extension.include_paths()]]
    command = [*compiler, "-std=c++17", "-fsyntax-only", *build.FLAGS, *folders, *build._units(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A file and its checksum, as `build` writes them."""
    path = tmp_path / "kernels_0.so"
    path.write_bytes(bytes(range(256)) * 100)
    build._checksum_file(path).write_text(build._checksum(path))
    return path


def test_a_complete_library_is_intact(library: Path):
    assert build._is_intact(library)


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
    build._checksum_file(path).unlink()


def binary_checksum(path: Path) -> None:
    build._checksum_file(path).write_bytes(b"\xff\xfe\x00")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = [cut, empty, flip_one_bit, append, remove, no_checksum, binary_checksum, folder]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_library_is_not_intact(library: Path, damage):
    damage(library)
    assert not build._is_intact(library)


@pytest.mark.parametrize("damage", [cut, empty, flip_one_bit, no_checksum])
def test_a_damaged_library_is_built_again_and_never_loaded(library: Path, damage, monkeypatch):
    """Loading a truncated one would end the process (SIGBUS)."""
    built, loaded = [], []
    monkeypatch.setattr(build, "_cache", lambda: library.parent)
    monkeypatch.setattr(build, "_fingerprint", lambda: "0")
    monkeypatch.setattr(build, "_compile", built.append)
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)
    assert build._build() == ""
    assert (built, loaded) == ([], [library])
    damage(library)
    left_behind = library.parent / f"{build.BUILD_PREFIX}killed"
    left_behind.mkdir()
    assert build._build() == ""
    assert (built, loaded) == ([library], [library])
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
    assert build._compiler() == words


@pytest.mark.parametrize("value", [None, "", "'{0}/my tools/compile' -O1 '-DNAME=two words'", "{0}/my tools/compile"])
def test_torch_is_given_one_word_as_the_compiler(value: str | None, tmp_path: Path, monkeypatch):
    """torch 2.15 quotes CXX as a whole, earlier versions do not."""
    for name in ("my tools/compile", "c++"):
        program = tmp_path / name
        program.parent.mkdir(exist_ok=True)
        program.write_text('#!/bin/sh\nprintf "%s;" "$@"\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CXX", raising=False)
    if value is not None:
        monkeypatch.setenv("CXX", value.format(tmp_path))
    before = dict(os.environ)
    folder = tmp_path / "building here"
    folder.mkdir()
    with build._compiler_environment(folder):
        assert re.fullmatch(r"\w+", os.environ["CXX"])
        done = subprocess.run([os.environ["CXX"], "-c", "a b.cpp"], capture_output=True, text=True, check=True)
    arguments = "-O1;-DNAME=two words;" if value and " -O1" in value else ""
    assert done.stdout == f"{arguments}-c;a b.cpp;"
    assert os.environ == before


def test_the_compiler_may_be_a_path_with_spaces(tmp_path: Path, monkeypatch):
    program = tmp_path / "my tools" / "c++"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("CXX", str(program))
    assert build._compiler() == [str(program)]
    assert build._missing() == ""


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no-such-compiler -O2", "no C++ compiler 'no-such-compiler' found"),
        ("'g++", "CXX is not a valid command (no closing quotation): 'g++"),
    ],
)
def test_a_wrong_compiler_is_named(value: str, reason: str, monkeypatch):
    monkeypatch.setenv("CXX", value)
    assert build._missing() == reason


@pytest.mark.parametrize("relative", [False, True])
def test_torch_extensions_dir_is_obeyed(tmp_path: Path, relative: bool, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "wanted" if relative else str(tmp_path / "wanted"))
    assert build._cache() == tmp_path / "wanted" / "fastfcn"
    assert build._cache().is_dir()
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "")
    monkeypatch.setattr(cpp_extension, "get_default_build_root", lambda: str(tmp_path / "default"))
    assert build._cache() == tmp_path / "default" / "fastfcn"


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("false"), reason="needs `false`")
@pytest.mark.parametrize("compiler", ["false", "false -O2"])
def test_a_failed_build_is_one_line(tmp_path: Path, compiler: str):
    code = "from fastfcn.kernels import available; print(available())"
    environment = os.environ | {"CXX": compiler, "TORCH_EXTENSIONS_DIR": str(tmp_path / "cache")}
    environment.pop("FASTFCN_KERNELS", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "False\n"
    assert "fast kernels are unavailable" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in (tmp_path / "cache" / "fastfcn").iterdir()] == ["lock"]
