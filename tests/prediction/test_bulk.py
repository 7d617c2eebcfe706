"""`predict` in bulk: shards, a manifest from which a stopped run continues, and formats besides label images."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from fastfcn.errors import UserError
from fastfcn.prediction import image_outputs
from fastfcn.prediction.inputs import output_names
from fastfcn.prediction.json_formats import coco, run_lengths
from fastfcn.prediction.manifest import Shard, find_shard
from fastfcn.prediction.prediction import Prediction
from fastfcn.prediction.predictor import Predictor
from fastfcn.utils.cluster import find_job
from tests.helpers.command import fastfcn
from tests.helpers.tiny import picture, save_picture

TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "RANK": "1"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven images in two folders, some of equal names."""
    folder = tmp_path_factory.mktemp("photos")
    for seed, name in enumerate(("a/1.png", "a/2.png", "a/3.jpg", "b/1.png", "b/2.png", "b/2.jpg", "b/4.png")):
        save_picture(folder / name, picture(32, 48, seed))
    return folder


@pytest.fixture(scope="module")
def whole(photos: Path, weights_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole")
    assert fastfcn("predict", weights_file, photos, "--out", out).code == 0
    return outputs(out)


def outputs(folder: Path) -> dict[str, bytes]:
    """The files of a prediction, without manifests."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith("manifest")}


def lines(manifest: Path) -> list[dict]:
    return [json.loads(line) for line in manifest.read_text().splitlines()]


def test_shards_write_together_what_one_run_writes(
    photos: Path, weights_file: Path, tmp_path: Path, whole: dict[str, bytes]
):
    for shard in ("1/3", "2/3", "3/3"):
        done = fastfcn("predict", weights_file, photos, "--out", tmp_path, "--shard", shard)
        assert done.code == 0, done.err
    assert outputs(tmp_path) == whole
    assert len(whole) == 2 * 7 + 1, "equal names overwrite nothing"
    manifests = [lines(path) for path in sorted(tmp_path.glob("manifest-*-of-3.jsonl"))]
    assert [header[0]["shard"] for header in manifests] == ["1/3", "2/3", "3/3"]
    images = [line["image"] for manifest in manifests for line in manifest[1:]]
    assert sorted(images) == sorted(str(path) for path in photos.glob("*/*"))
    assert all(sum(line["pixels"].values()) == 32 * 48 for manifest in manifests for line in manifest[1:])


def test_more_shards_than_images(photos: Path, weights_file: Path, tmp_path: Path):
    assert fastfcn("predict", weights_file, photos / "a", "--out", tmp_path, "--shard", "9/9").code == 0
    assert list(outputs(tmp_path)) == ["legend.png"]


def test_processes_of_a_job_divide_their_shard(monkeypatch: pytest.MonkeyPatch):
    assert find_shard("2/3", find_job()) == Shard(1, 3)
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert find_shard(None, find_job()) == Shard(1, 2)
    assert find_shard("2/3", find_job()) == Shard(3, 6)
    for text in ("0/3", "4/3", "1", "1/", "-1/2", "a/b"):
        with pytest.raises(UserError, match="is not a shard"):
            find_shard(text, None)


@pytest.mark.parametrize("stop", [1, 2, 5, 7])
def test_a_stopped_run_continues(
    photos: Path, weights_file: Path, tmp_path: Path, whole: dict, monkeypatch: pytest.MonkeyPatch, stop: int
):
    """Stopped while it writes an output; what a kill leaves is added: a temporary file and half a line."""
    plain, started = image_outputs._encode_labels, []

    def encode(prediction: Prediction) -> bytes:
        started.append(prediction)
        if len(started) == stop:
            raise KeyboardInterrupt
        return plain(prediction)

    with monkeypatch.context() as patched:
        patched.setattr(image_outputs, "_encode_labels", encode)
        assert fastfcn("predict", weights_file, photos, "--out", tmp_path, "--resume").code == 130
    finished = stop - 1
    (tmp_path / ".4.123-0a1b2c3d.png").write_bytes(b"half")
    with (tmp_path / "manifest.jsonl").open("a") as file:
        file.write('{"image": "half')
    done = fastfcn("predict", weights_file, photos, "--out", tmp_path, "--resume")
    assert f"Segmented {7 - finished} of {7 - finished} images" in done.out
    assert outputs(tmp_path) == whole
    assert len(lines(tmp_path / "manifest.jsonl")) == 8


def test_images_are_done_again_if_they_failed_or_their_files_are_gone(weights_file: Path, tmp_path: Path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    for name in ("1.png", "2.png", "3.png"):
        save_picture(photos / name, picture(32, 48))
    (photos / "2.png").write_bytes(b"no image")
    arguments = ("predict", weights_file, photos, "--out", out, "--resume")
    assert fastfcn(*arguments).code == 1
    assert "2.png" in lines(out / "manifest.jsonl")[2]["error"]
    (out / "3.png").unlink()
    save_picture(photos / "2.png", picture(32, 48))
    done = fastfcn(*arguments)
    assert (done.code, "Segmented 2 of 2 images" in done.out, "1 were finished before" in done.out) == (0, True, True)
    done = fastfcn(*arguments)
    assert (done.code, "Segmented 0 of 0 images" in done.out) == (0, True)
    assert all("pixels" in line for line in lines(out / "manifest.jsonl")[1:])
    for more, message in ((["--opacity", "0.3"], "opacity: 0.5 before, 0.3 now"), ([photos / "1.png"], "inputs: ")):
        done = fastfcn(*arguments, *more) if more[0] == "--opacity" else fastfcn(*arguments[:2], *more, *arguments[3:])
        assert done.code == 2
        assert message in done.err.replace("\n", " ")


def test_formats(photos: Path, weights_file: Path, tmp_path: Path, predictor: Predictor):
    names = ("polygons", "coco", "confidence", "shares")
    options = [word for name in names for word in ("--format", name)]
    done = fastfcn("predict", weights_file, photos / "a", "--out", tmp_path, "--no-labels", "--no-overlay", *options)
    assert done.code == 0, done.err
    expected = {f"{name}{ending}" for name in "123" for ending in (".geojson", ".json", "_confidence.png")}
    assert set(outputs(tmp_path)) == expected | {"legend.png", "shares.csv"}
    image = predictor(photos / "a/1.png", probabilities=True)
    regions = json.loads((tmp_path / "1.geojson").read_text())
    assert {entry["name"]: entry["share"] for entry in regions["classes"]} == image.shares()
    confidence = np.asarray(Image.open(tmp_path / "1_confidence.png"))
    assert np.abs(confidence / 255 - image.confidence()).max() <= 0.5 / 255 + 1e-6
    assert json.loads((tmp_path / "1.json").read_text()) == coco(image)
    rows = list(csv.DictReader((tmp_path / "shares.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == ["1", "2", "3"]
    assert {name: float(rows[0][name]) for name in image.shares()} == pytest.approx(image.shares(), abs=1e-6)


def test_unknown_formats_are_refused(photos: Path, weights_file: Path, tmp_path: Path):
    done = fastfcn("predict", weights_file, photos, "--out", tmp_path / "out", "--format", "svg")
    assert (done.code, "Unknown format 'svg'" in done.err, (tmp_path / "out").exists()) == (2, True, False)


def test_masks_of_coco_are_those_of_the_labels(predictor: Predictor):
    image = predictor(picture(33, 47))
    for annotation in coco(image)["annotations"]:
        encoded = coco_mask.frPyObjects(annotation["segmentation"], 33, 47)
        mask = image.labels == predictor.classes.index(annotation["category"])
        assert np.array_equal(coco_mask.decode(encoded), mask)
        assert coco_mask.area(encoded) == annotation["area"]
        assert coco_mask.toBbox(encoded).tolist() == annotation["bbox"]
    assert run_lengths(np.array([[True, False], [True, True]])) == [0, 2, 1, 1]


def test_many_equal_names():
    """In linear time: 20,000 took minutes when each name was tried from the start."""
    paths = [Path(f"{number}/a.png") for number in range(20_000)]
    names = output_names([*paths, Path("a_7.png")])
    assert names[:2] + names[-2:] == ["a", "a_2", "a_20000", "a_7_2"]
    assert output_names([Path("a_confidence.png"), Path("a.png")], ("", "_confidence")) == ["a_confidence", "a_2"]


def addresses() -> Iterator[tuple]:
    yield "predict", "WEIGHTS", "IMAGE", "--out", "s3://bucket/out"
    yield "train", "demo", "--data", "streets", "--out", "s3://bucket/run"
    yield "check", "photos", "--json", "gs://bucket/check.json"


@pytest.mark.parametrize("command", addresses(), ids=lambda words: words[0])
def test_urls_are_refused_where_paths_are_needed(
    command: tuple, weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    known = {"WEIGHTS": weights_file, "IMAGE": save_picture(tmp_path / "a.png")}
    done = fastfcn(*(known.get(word, word) for word in command))
    url = next(word for word in command if "://" in word)
    assert (done.code, f"{url} is a URL" in done.err) == (2, True), done.err
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
