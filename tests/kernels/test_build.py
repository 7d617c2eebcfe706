"""The kernels' build: every source is compiled once, and all sources fit one translation unit."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
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
    """No two sources define the same name differently."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    folders = [f"-I{folder}" for folder in [build.SOURCES, *cpp_extension.include_paths()]]
    command = [*compiler, "-std=c++20", "-fsyntax-only", *build.FLAGS, *folders, *build._units(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
