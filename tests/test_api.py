"""The Python API: every function on small data, and the names in `fastfcn`."""

import importlib
import inspect
import math
import pkgutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import fastfcn
from fastfcn import api
from fastfcn.errors import DataError, RecipeError
from fastfcn.evaluation.scores import EvaluationResult
from fastfcn.training.run import TrainingResult
from tests.helpers.tiny import NARROW, picture, tiny_recipe, write_streets

API = ("JPU", "check", "create", "evaluate", "export", "from_pretrained", "list_recipes", "load", "optimize", "train")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_streets(tmp_path_factory.mktemp("streets"))


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory) -> TrainingResult:
    out = tmp_path_factory.mktemp("runs") / "a"
    return fastfcn.train(tiny_recipe(), data=data, out=out, accelerator="cpu", workers=0)


def test_dir_lists_the_api():
    assert set(API) == set(fastfcn.__all__)
    assert set(API) <= set(dir(fastfcn))
    with pytest.raises(AttributeError, match="no attribute 'unknown'"):
        fastfcn.unknown  # type: ignore[attr-defined] # noqa: B018


def test_no_module_shadows_a_function_of_the_api():
    """Importing a submodule sets an attribute of its package, which would shadow a function of that name."""
    folder = Path(fastfcn.__path__[0])
    paths = [path.relative_to(folder).with_suffix("").parts for path in sorted(folder.rglob("*.py"))]
    names = [".".join(("fastfcn", *parts)).removesuffix(".__init__") for parts in paths if parts != ("__main__",)]
    code = (
        "import fastfcn, importlib\n"
        f"for name in {names}:\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except (ImportError, RuntimeError):  # without an optional package, or before the kernels are built\n"
        "        assert name.startswith(('fastfcn.prediction.', 'fastfcn.kernels.', 'fastfcn.serving.')), name\n"
        f"print([name for name in {API} if not callable(getattr(fastfcn, name))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_no_module_has_the_name_of_a_function_of_the_api():
    assert {module.name for module in pkgutil.iter_modules(fastfcn.__path__)}.isdisjoint(API)


def test_import_is_fast():
    """The minimum of several runs, minus that of an empty process: a busy machine can only add time."""

    def seconds(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - start

    empty, imported = (min(seconds(code) for _ in range(5)) for code in ("import typing", "import fastfcn"))
    assert imported - empty < 0.1


@pytest.mark.parametrize("name", [name for name in API if name != "JPU"])
def test_functions_are_documented_and_typed(name: str):
    function = getattr(fastfcn, name)
    assert inspect.getdoc(function)
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(value.annotation is not inspect.Parameter.empty for value in signature.parameters.values())


def test_train_returns_where_the_run_is(run: TrainingResult):
    assert (run.step, run.steps, run.best_step, run.finished) == (4, 4, 4, True)
    assert run.miou is not None
    assert 0 <= run.miou <= 100
    assert run.weights.is_file()
    assert run.last_weights.is_file()
    assert [line["step"] for line in run.log() if "loss" in line] == [1, 2, 3, 4]
    with pytest.raises(AttributeError):
        run.step = 5  # type: ignore[misc]


def test_a_recipe_by_name_with_overrides(data: Path, tmp_path: Path):
    """By name, as in the documentation; overrides as a dictionary and as strings give the same run."""
    changes = {"optim.steps": 2, "backbone": {"kind": "pyramid", "name": "test_resnet", "pretrained": "none"}}
    changes |= {"data.base_size": [64, 96], "data.crop": (64, 96), "neck.width": 8, "head.width": 8}
    changes |= {"auxiliary.width": 8, "optim.batch": 4, "eval.scales": [0.5, 1.0]}
    texts = ["optim.steps=2", *NARROW[2:8], "optim.batch=4", "eval.scales=[0.5, 1.0]"]
    runs = [
        fastfcn.train("demo", data, tmp_path / name, overrides=overrides, accelerator="cpu", workers=0)
        for name, overrides in (("dictionary", changes), ("texts", texts))
    ]
    assert [run.step for run in runs] == [2, 2]
    losses = [[line["loss"] for line in run.log() if "loss" in line] for run in runs]
    assert losses[0] == losses[1]


def test_a_run_is_resumed(data: Path, tmp_path: Path, monkeypatch):
    """Ctrl-C during a step ends the call normally; `resume` continues to the same weights."""
    import signal

    from fastfcn.training import train as module

    plain = module.train_step

    def interrupted(*arguments, **named):
        signal.raise_signal(signal.SIGINT)
        return plain(*arguments, **named)

    settings = {"data": data, "accelerator": "cpu", "workers": 0}
    monkeypatch.setattr(module, "train_step", interrupted)
    stopped = fastfcn.train(tiny_recipe(), out=tmp_path / "run", **settings)
    assert (stopped.step, stopped.miou, stopped.finished) == (1, None, False)
    monkeypatch.setattr(module, "train_step", plain)
    resumed = fastfcn.train(tiny_recipe(), out=tmp_path / "run", resume=True, **settings)
    uncut = fastfcn.train(tiny_recipe(), out=tmp_path / "whole", **settings)
    assert resumed.finished
    assert resumed.miou == uncut.miou
    assert [line.get("loss") for line in resumed.log()] == [line.get("loss") for line in uncut.log()]


def test_training_in_a_thread(data: Path, tmp_path: Path):
    """Signal handlers need the main thread; training in other threads runs without them."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        recipe = tiny_recipe("optim.steps=1")
        run = pool.submit(fastfcn.train, recipe, data, tmp_path / "run", accelerator="cpu", workers=0).result()
    assert run.finished


def test_overrides():
    assert api._override_list(["optim.lr=0.1"]) == ["optim.lr=0.1"]
    assert api._override_list("optim.lr=0.1") == ["optim.lr=0.1"]
    changes = {"optim.lr": 0.1, "eval.flip": False, "neck": {"kind": "none"}, "data.crop": (64, 96)}
    used = tiny_recipe(*api._override_list(changes))
    assert (used.optim.lr, used.eval.flip, used.neck.kind, used.data.crop) == (0.1, False, "none", (64, 96))
    assert api._override_list({"start": Path("a/b.safetensors")}) == ['start="a/b.safetensors"']
    with pytest.raises(RecipeError):
        tiny_recipe(*api._override_list({"optim.lr": "many"}))


def test_evaluate(run: TrainingResult, data: Path):
    result = fastfcn.evaluate(run.weights, data, accelerator="cpu", workers=0)
    assert isinstance(result, EvaluationResult)
    assert result.split == "val"
    assert result.miou == pytest.approx(run.miou, abs=1e-3)  # the optimized network rounds differently
    assert list(result.classes) == list(result.description.class_names)
    known = [value for value in result.classes.values() if not math.isnan(value)]
    assert result.miou == pytest.approx(np.mean(known))
    assert result.as_json()["miou"] == pytest.approx(result.miou, abs=1e-4)
    flipped = fastfcn.evaluate(
        run.weights, data, split="train", tta=True, overrides={"eval.flip": False}, accelerator="cpu", workers=0
    )
    assert flipped.split == "train"


def test_predictions_of_the_trained_weights(run: TrainingResult):
    labels = fastfcn.load(run.weights, "cpu")(picture()).labels
    assert labels.shape == (64, 96)


def test_check(data: Path, tmp_path: Path):
    report = fastfcn.check(data, workers=1, show_progress=False)
    assert report.pairs == 9
    assert report.errors == []
    with pytest.raises(DataError):
        fastfcn.check(tmp_path / "missing")


def test_export(run: TrainingResult, tmp_path: Path):
    pytest.importorskip("onnxruntime")
    lines: list[str] = []
    report = fastfcn.export(
        run.weights, format="onnx", out=tmp_path / "model.onnx", sizes=[(80, 112)], progress=lines.append
    )
    assert report.path.is_file()
    predicted, exported = (fastfcn.load(path, "cpu")(picture()).labels for path in (run.weights, report.path))
    assert (predicted == exported).mean() > 0.999


def test_parts():
    assert "fastfcn_r18_psp_camvid" in fastfcn.list_recipes()
    network = fastfcn.create(tiny_recipe()).eval()
    images = torch.zeros(1, 3, 64, 96)
    with torch.inference_mode():
        plain, fast = network.logits(images), fastfcn.optimize(network).logits(images)
        torch.testing.assert_close(plain, fast, rtol=1e-3, atol=1e-4)
        maps = [torch.zeros(1, 8, size, size) for size in (16, 8, 4)]
        assert fastfcn.JPU([8, 8, 8], width=4)(maps).shape == (1, 16, 16, 16)


def test_modules_are_importable_by_the_names_in_the_table():
    for module, attribute in fastfcn._SOURCES.values():
        assert hasattr(importlib.import_module(module), attribute)
