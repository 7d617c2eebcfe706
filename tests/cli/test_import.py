"""`fastfcn import` on the command line: every format goes through check, import, init, train and predict."""

import json
from pathlib import Path

import pytest

from tests.helpers import annotated_sets as sets
from tests.helpers.command import fastfcn
from tests.helpers.tiny import NARROW

TINY = (*NARROW, "data.base_size=[48, 64]", "data.crop=[32, 32]", "optim.steps=1", "optim.batch=2", "eval.every=1")
CPU = ("--accelerator", "cpu", "--workers", "0")
MASKS = ("voc", "voc of cvat", "roboflow")  # can be used without an import, too


@pytest.mark.parametrize("name", sets.SETS)
def test_from_annotations_to_predictions(name: str, tmp_path: Path):
    root, out, run = sets.SETS[name](tmp_path / "set"), tmp_path / "out", tmp_path / "run"
    checked = fastfcn("check", root)
    if name not in MASKS:
        assert checked.code == 2
        assert "fastfcn import" in checked.err
    done = fastfcn("import", root, "--out", out, "--json", tmp_path / "report.json")
    assert done.code == 0, done.err
    assert "leaf" in done.out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["format"] == name.split(" ")[0]
    assert sum(report["images"].values()) == sets.COUNT
    assert [entry["name"] for entry in report["classes"]] == ["background", "leaf", "stem"]
    checked = fastfcn("check", out)
    assert checked.code == 0, checked.out
    made = fastfcn("init", out, "--pretrained", "none", "--accelerator", "cpu")
    assert (made.code, "3 classes" in made.out) == (0, True), made.err
    dataset = f"data.dataset={out / 'dataset.toml'}"
    trained = fastfcn("train", "demo", *TINY, dataset, "--data", out, "--out", run, "--no-report", *CPU)
    assert trained.code == 0, trained.err
    image = next((out / "images").rglob("5.jpg"))
    predicted = fastfcn(
        "predict", run / "weights.safetensors", image, "--out", tmp_path / "predicted", "--device", "cpu"
    )
    assert predicted.code == 0, predicted.err
    assert (tmp_path / "predicted/5.png").is_file()


def test_merged_and_dropped_classes_from_import_to_evaluation(tmp_path: Path):
    root, out, run = sets.coco_polygons(tmp_path / "set"), tmp_path / "out", tmp_path / "run"
    assert fastfcn("import", root, "--out", out).code == 0
    file = out / "dataset.toml"
    file.write_text(file.read_text() + 'merge = { plant = ["leaf", "stem"] }\n')
    assert "2 classes" in fastfcn("init", out, "--pretrained", "none", "--accelerator", "cpu").out
    assert fastfcn("check", out, "--dataset", file, "--values").code == 0
    dataset = f"data.dataset={file}"
    done = fastfcn("train", "demo", *TINY, dataset, "--data", out, "--out", run, "--no-report", *CPU)
    assert done.code == 0, done.err
    scores = tmp_path / "scores.json"
    done = fastfcn("evaluate", run / "weights.safetensors", "--data", out, "--json", scores, *CPU)
    assert done.code == 0, done.err
    assert list(json.loads(scores.read_text())["classes"]) == ["background", "plant"]


def test_broken_annotations_end_with_code_2(tmp_path: Path):
    root = sets.labelme(tmp_path / "set")
    (root / "3.json").write_text((root / "3.json").read_text()[:-40])
    done = fastfcn("import", root, "--out", tmp_path / "out")
    assert (done.code, "3.json: it is not valid JSON" in done.err, "--skip-broken" in done.err) == (2, True, True)
    done = fastfcn("import", root, "--out", tmp_path / "out", "--skip-broken")
    assert done.code == 0, done.err
    assert "Left out as broken: 1" in done.out
    assert "3.json: it is not valid JSON" in done.out
    assert "Not painted, because it has no area: point (5)." in done.out
