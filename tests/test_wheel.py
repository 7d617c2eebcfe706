"""The build hook: a wheel is plain Python, or contains the libraries that FASTFCN_BUILD_KERNELS asks for."""

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.helpers.paths import ROOT

pytest.importorskip("hatchling")


@pytest.fixture
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


@pytest.fixture
def hook(module: ModuleType, monkeypatch):
    """A hook whose `compiled` are the names that were asked for; it writes one library."""
    compiled = []

    def compile_bundled(folder: Path, names: list[str]) -> list[Path]:
        compiled.append(names)
        (folder / "one.so").write_bytes(b"library")
        return [folder / "one.so"]

    monkeypatch.setattr(module, "_kernels_build", lambda root: SimpleNamespace(compile_bundled=compile_bundled))
    hook = module.CustomBuildHook(str(ROOT), {}, None, None, "", "wheel")
    hook.compiled = compiled
    return hook


@pytest.mark.parametrize(
    ("setting", "version"), [("", "standard"), ("0", "standard"), ("off", "standard"), ("1", "editable")]
)
def test_a_wheel_is_plain_python(setting: str, version: str, hook, monkeypatch):
    monkeypatch.setenv("FASTFCN_BUILD_KERNELS", setting)
    data = {"force_include": {}, "pure_python": True}
    hook.initialize(version, data)
    hook.finalize(version, data, "")
    assert (data, hook.compiled) == ({"force_include": {}, "pure_python": True}, [])


@pytest.mark.parametrize(("setting", "names"), [("1", []), ("x86-64-v3,x86-64-v4", ["x86-64-v3", "x86-64-v4"])])
def test_a_wheel_with_kernels(setting: str, names: list[str], hook, monkeypatch):
    monkeypatch.setenv("FASTFCN_BUILD_KERNELS", setting)
    data = {"force_include": {}, "pure_python": True}
    hook.initialize("standard", data)
    ((source, target),) = data.pop("force_include").items()
    assert target == "fastfcn/kernels/bundled/one.so"
    assert Path(source).read_bytes() == b"library"
    assert data["tag"].startswith("py3-none-")
    assert data["tag"] != "py3-none-any"
    assert not data["pure_python"]
    assert hook.compiled == [names]
    hook.finalize("standard", data, "")
    assert not Path(source).exists()


def test_the_hook_finds_the_build(module: ModuleType):
    build = module._kernels_build(ROOT)
    assert build.SOURCES == ROOT / "src/fastfcn/kernels/csrc"
    assert callable(build.compile_bundled)


def test_without_torch_the_hook_says_what_to_do(module: ModuleType, tmp_path: Path):
    path = tmp_path / "src/fastfcn/kernels/build.py"
    path.parent.mkdir(parents=True)
    path.write_text("import a_module_that_is_not_installed\n")
    with pytest.raises(RuntimeError, match="FASTFCN_BUILD_KERNELS needs torch: install it first"):
        module._kernels_build(tmp_path)
