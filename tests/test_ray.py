"""Prediction on Ray. Most tests run the actor in this process, under a stand-in for Ray Data; one needs Ray itself."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastfcn.ray
from fastfcn.errors import UserError
from fastfcn.prediction.predictor import Predictor
from fastfcn.prediction.video.segment import OutputSettings
from tests.helpers.command import fastfcn as command
from tests.helpers.tiny import picture, save_picture


class Dataset:
    """The methods of `ray.data.Dataset` that are used: batches are computed one after the other, the last one first."""

    def __init__(self, rows: list[dict[str, Any]]):
        self.rows, self.options = rows, {}

    def map_batches(self, actor: type, fn_constructor_args: tuple, batch_size: int, **options: Any) -> "Dataset":
        segment = actor(*fn_constructor_args)
        result = Dataset([])
        result.options = options
        for start in reversed(range(0, len(self.rows), batch_size)):
            part = segment(columns(self.rows[start : start + batch_size]))
            result.rows += [dict(zip(part, row, strict=True)) for row in zip(*part.values(), strict=True)]
        return result

    def iter_batches(self, **_: Any) -> Iterator[dict[str, np.ndarray]]:
        yield columns(self.rows)


def columns(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    arrays = {name: np.empty(len(rows), object) for name in rows[0]}
    for index, row in enumerate(rows):
        for name, value in row.items():
            arrays[name][index] = value
    return arrays


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Takes the place of Ray."""
    module: Any = ModuleType("ray")
    context = SimpleNamespace(enable_progress_bars=True)
    module.data = ModuleType("ray.data")
    module.data.DataContext = SimpleNamespace(get_current=lambda: context)
    module.data.ActorPoolStrategy = lambda **pool: pool
    module.data.from_items = lambda rows, override_num_blocks: Dataset(rows)
    module.is_initialized = lambda: True
    module.cluster_resources = lambda: {"CPU": 5.0}
    monkeypatch.setitem(sys.modules, "ray", module)
    monkeypatch.setitem(sys.modules, "ray.data", module.data)
    return module


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three images, two of them of one name, and a file that is none."""
    for seed, name in enumerate(("a/1.png", "a/2.png", "b/1.png")):
        save_picture(tmp_path / "photos" / name, picture(32, 48, seed))
    (tmp_path / "photos/b/2.png").write_bytes(b"no image")
    return tmp_path / "photos"


def contents(folder: Path) -> tuple[dict[str, bytes], list[dict], list[str]]:
    """Files, settings and lines of the manifest of a prediction."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if "manifest" not in path.name}
    settings, *lines = (folder / "manifest.jsonl").read_text().splitlines()
    return files, json.loads(settings), sorted(set(lines))  # an image that is done again has two equal ones


FORMATS = [word for name in ("polygons", "coco", "confidence", "shares") for word in ("--format", name)]


def test_equal_to_prediction_without_ray(ray: ModuleType, photos: Path, weights_file: Path, tmp_path: Path):
    plain = command("predict", weights_file, photos, "--out", tmp_path / "plain", *FORMATS)
    arguments = ("predict", weights_file, photos, "--out", tmp_path / "ray", *FORMATS, "--engine", "ray")
    done = command(*arguments, "--device", "cpu", "--batch", "2")
    assert (done.code, plain.code) == (1, 1), "one file is not an image"
    assert "2.png cannot be read" in done.err
    assert contents(tmp_path / "ray") == contents(tmp_path / "plain")
    (tmp_path / "ray/2.png").unlink()
    again = command(*arguments, "--resume")
    assert "Segmented 1 of 2 images" in again.out
    assert "2 were finished before" in again.out
    assert contents(tmp_path / "ray") == contents(tmp_path / "plain")


def test_rows_get_the_content_of_the_files(ray: ModuleType, photos: Path, weights_file: Path, predictor: Predictor):
    files = sorted(photos.glob("*/*.png"))
    rows = [{"path": str(file), "bytes": file.read_bytes()} for file in files]
    settings = OutputSettings(formats=("coco",))
    result = fastfcn.ray.predict(Dataset(rows), weights_file, column="bytes", settings=settings, device="cpu")  # type: ignore[arg-type]
    assert result.options["compute"] == {"min_size": 1, "max_size": 5}  # type: ignore[attr-defined]
    assert [bool(row["error"]) for row in result.rows] == [False, False, False, True]  # type: ignore[attr-defined]
    first, *_, last = result.rows  # type: ignore[attr-defined]
    expected = predictor(files[0])
    assert first["labels"] == fastfcn.ray.ImageOutputs(Path(), settings).encode(expected)["labels"]
    assert first.keys() == {"path", "bytes", "labels", "overlay", "coco", "pixels", "error"}
    assert sum(json.loads(first["pixels"]).values()) == 32 * 48
    assert (last["labels"], str(files[3]) in last["error"]) == (None, True)
    arrays = Dataset([{"image": picture(32, 48, 0)}])
    (row,) = fastfcn.ray.predict(arrays, weights_file, device="cpu", actors=2, threads=3).rows  # type: ignore[arg-type, attr-defined]
    assert row["labels"] == first["labels"]


def test_room_on_a_cluster(ray: Any):
    assert fastfcn.ray.room(gpus=False, threads=None) == (5, 1)
    assert fastfcn.ray.room(gpus=False, threads=2) == (2, 2)
    ray.cluster_resources = lambda: {"CPU": 64.0, "GPU": 8.0}
    assert fastfcn.ray.room(gpus=True, threads=None) == (8, 8)
    assert fastfcn.ray.room(gpus=True, threads=16) == (4, 16)
    assert fastfcn.ray._use_gpus("auto")
    with pytest.raises(UserError, match="Ray assigns"):
        fastfcn.ray._use_gpus("cuda:1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "dask"], "Unknown engine 'dask'"),
        (["--actors", "2"], "--actors is an option of the actors of Ray"),
        (["--engine", "ray", "--tile", "512"], "supports neither --server nor --tile"),
        (["--engine", "ray"], "pip install 'fastfcn[cluster]'"),
    ],
)
def test_refused(
    photos: Path, weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list, message: str
):
    monkeypatch.setitem(sys.modules, "ray", None)
    done = command("predict", weights_file, photos, "--out", tmp_path / "out", *options)
    assert (done.code, message in done.err) == (2, True), done.err
    assert not (tmp_path / "out").exists()


def test_on_a_cluster_of_this_machine(photos: Path, weights_file: Path, tmp_path: Path):
    real = pytest.importorskip("ray")
    real.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        for engine, out in (("local", "plain"), ("ray", "ray")):
            command("predict", weights_file, photos, "--out", tmp_path / out, "--engine", engine, "--device", "cpu")
        (tmp_path / "file").write_bytes(b"")
        assert contents(tmp_path / "ray") == contents(tmp_path / "plain")
        rows = real.data.from_items([{"image": str(photos / "a/1.png"), "name": "1"}])
        with pytest.raises(UserError, match="Cannot create the folder"), fastfcn.ray._user_errors():
            fastfcn.ray.predict(rows, weights_file, tmp_path / "file" / "out", device="cpu", actors=1).take_all()
    finally:
        real.shutdown()
