"""`fastfcn report`: HTML from a run, with and without data; and the reports that `train` and `evaluate` write."""

import json
import re
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from fastfcn.errors import DataError
from fastfcn.report import report as report_module
from fastfcn.report.html import render
from fastfcn.report.report import report
from fastfcn.report.run_report import RunReport
from fastfcn.training.run import Run
from fastfcn.training.train import train
from fastfcn.utils.machine import Machine
from tests.helpers.command import fastfcn
from tests.helpers.paths import ROOT
from tests.helpers.run_reports import HOSTILE, analysis, run_report
from tests.helpers.tiny import tiny_recipe, tiny_weights, write_streets

CPU = Machine("cpu", workers=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_streets(tmp_path_factory.mktemp("streets"), 4, 3)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    """A run of two steps with its report."""
    folder = tmp_path_factory.mktemp("runs") / "two steps"
    train(tiny_recipe("optim.steps=2", "eval.every=1"), data, folder, CPU)
    report_module.report_after_training(Run(folder), data, CPU)
    return folder


@pytest.fixture(scope="module")
def other(run, data, tmp_path_factory) -> Path:
    """The same run with random weights."""
    folder = tmp_path_factory.mktemp("runs") / "other"
    shutil.copytree(run, folder)
    tiny_weights(folder / "weights.safetensors", "optim.lr=0.5")
    return folder


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def titles(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


ALL = [
    "Training", "Classes", "Confusion", "Calibration", "Errors", "Images", "Speed and memory", "Recipe", "Environment",
]  # fmt: skip
RECORDED = ["Training", "Classes", "Speed and memory", "Recipe", "Environment"]


def test_training_ends_with_a_report(run, data):
    page = text(run / "report.html")
    assert titles(page) == ALL
    assert str(data.resolve()) in text(run / "environment.toml")
    assert "Training, peak memory" in page
    # Three images, each with image, ground truth, prediction and errors.
    assert page.count('src="data:image/jpeg') == 6
    assert page.count('src="data:image/png') == 6
    assert len(page) < 2_000_000


def test_the_page_refers_to_nothing_else(run):
    page = unescape(re.sub(r'src="data:[^"]*"', "", text(run / "report.html")))
    assert "default-src 'none'" in page
    assert not re.search(r'(?:src|href)="(?!#|data:,)', page)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", page)


def test_the_scores_are_those_of_evaluate(run, data, tmp_path):
    plain, watched = tmp_path / "plain.json", tmp_path / "watched.json"
    common = ("evaluate", run / "weights.safetensors", "--data", data, "--accelerator", "cpu", "--workers", 0)
    assert fastfcn(*common, "--json", plain).code == 0
    assert fastfcn(*common, "--json", watched, "--report", tmp_path / "new" / "scores.html").code == 0
    scores = json.loads(plain.read_text())
    assert json.loads(watched.read_text()) == scores
    page = text(tmp_path / "new" / "scores.html")
    assert titles(page) == ALL  # log and recipe of the run that contains the weights
    assert f"<dd>{scores['miou']:.1f}</dd>" in page


def test_weights_outside_a_run_have_a_report(weights_file, data, tmp_path):
    done = fastfcn("evaluate", weights_file, "--data", data, "--report", tmp_path / "page.html", "--accelerator", "cpu",
                   "--workers", 0)  # fmt: skip
    assert done.code == 0
    page = text(tmp_path / "page.html")
    assert "The run has no training log." in page
    assert "Recipe tiny" in page


def test_the_recorded_data_folder_is_used(run, tmp_path):
    done = fastfcn("report", run, "--out", tmp_path / "page.html", "--accelerator", "cpu", "--workers", 0)
    assert (done.code, titles(text(tmp_path / "page.html"))) == (0, ALL)
    assert "page.html" in done.out


def test_two_runs_side_by_side(run, other, tmp_path):
    target, missing = report(run, CPU, against=other, out=tmp_path / "both.html")
    page = text(target)
    assert missing == []
    assert titles(page) == ALL
    assert page.count('src="data:image/jpeg') == 9  # image, and errors of both
    assert "two steps</span> <small>vs.</small> <span" in page
    assert "Both runs have the same recipe." in page
    assert page.count('class="line second"') > 1


def without(run: Path, folder: Path, *names: str) -> Path:
    shutil.copytree(run, folder)
    for name in (*names, "report.html"):
        (folder / name).unlink()
    return folder


def test_without_data_the_report_shows_what_was_recorded(run, tmp_path):
    folder = without(run, tmp_path / "alone", "environment.toml")
    done = fastfcn("report", folder)
    page = text(folder / "report.html")
    assert done.code == 0
    assert "--data FOLDER" in done.out
    assert "--data FOLDER" in page
    assert titles(page) == RECORDED
    best = max(line["validation"]["miou"] for line in Run(folder).read_log() if "validation" in line)
    assert f"<dd>{best:.1f}</dd>" in page


def test_a_missing_data_folder_is_named(run, tmp_path):
    folder = without(run, tmp_path / "moved", "environment.toml")
    (folder / "environment.toml").write_text('data = "/no/such/folder"\ndevice = "cpu"\n')
    _, missing = report(folder, CPU)
    assert ["/no/such/folder" in line for line in missing] == [True]


def test_without_weights_and_without_log(run, tmp_path):
    folder = without(run, tmp_path / "bare", "weights.safetensors", "log.jsonl", "labels.json")
    _, missing = report(folder, CPU)
    assert ["weights.safetensors" in line for line in missing] == [True]
    assert titles(text(folder / "report.html")) == ["Training", "Speed and memory", "Recipe", "Environment"]
    assert "The run has no training log." in text(folder / "report.html")


def test_a_folder_that_is_not_a_run_is_refused(tmp_path):
    done = fastfcn("report", tmp_path)
    assert done.code == 2
    assert "is not a run" in done.err


def test_a_damaged_file_is_named(run, tmp_path):
    folder = without(run, tmp_path / "damaged", "labels.json")
    (folder / "labels.json").write_text("{")
    with pytest.raises(DataError, match=r"labels\.json is damaged"):
        report(folder, CPU)


def test_wrong_data_are_refused(run, tmp_path):
    done = fastfcn("report", run, "--data", tmp_path, "--accelerator", "cpu")
    assert done.code == 2
    assert str(tmp_path) in done.err


def test_runs_with_different_classes_are_not_compared(run, weights_file, data, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(run, mine)
    runs = [report_module.RunReport(report_module.read_history(mine), analysis(classes)) for classes in (2, 3)]
    with pytest.raises(report_module.UserError, match="different classes"):
        report_module._check_comparable(runs)


def test_a_report_that_fails_does_not_lose_the_run(data, tmp_path, monkeypatch, capsys):
    def broken(*_: object) -> str:
        raise RuntimeError("no more memory")

    monkeypatch.setattr(report_module, "render", broken)
    state = train(tiny_recipe("optim.steps=1", "eval.every=1"), data, tmp_path / "run", CPU)
    assert state.step == 1
    assert (tmp_path / "run" / "weights.safetensors").exists()
    assert not (tmp_path / "run" / "report.html").exists()
    line = report_module.report_after_training(Run(tmp_path / "run"), data, CPU)
    assert "no more memory" in line
    assert "fastfcn report" in line


def test_the_recorded_run_of_the_benchmarks(tmp_path):
    """A run without weights: curves and recorded scores."""
    folder = ROOT / "benchmarks" / "results" / "camvid_r50_psp"
    target, missing = report(folder, CPU, out=tmp_path / "camvid.html")
    page = text(target)
    assert len(missing) == 1
    assert titles(page) == RECORDED
    assert "<dd>70.6</dd>" in page
    assert "pedestrian" in page


def test_hostile_names_are_escaped_everywhere(tmp_path):
    """Names with quotes and markup, in text, attributes, SVG and JSON: no element and no attribute comes from them."""
    name = """"><img src=x onerror="alert(1)"></script><b>'&"""
    runs = []
    for classes, seed in ((30, 0), (30, 1)):
        run = run_report(tmp_path, classes, name, seed)
        labels = run.analysis.description.classes
        renamed = tuple(label.model_copy(update={"name": f"{name} {i}"}) for i, label in enumerate(labels))
        changed = replace(run.analysis, description=run.analysis.description.model_copy(update={"classes": renamed}))
        examples = [replace(example, name=name) for example in changed.worst]
        history = replace(
            run.history, environment={name: name}, curves=run.history.curves | {name: run.history.curves["loss"]}
        )
        runs.append(RunReport(history, replace(changed, worst=examples), (name,)))
    for shown in (runs, runs[:1]):
        page = render(shown, name)
        assert "<img src=x" not in page
        assert "<b>'" not in page
        assert not re.search(r'onerror="', page)
        assert page.count("</script>") == page.count("<script")
        assert unescape(page).count(name) > 60


def test_a_hostile_name_is_text(tmp_path):
    page = render([run_report(tmp_path, 2, "two")], "Created by a test.")
    assert "<script>alert" not in page
    assert HOSTILE in unescape(page)


def test_several_runs_are_compared_in_a_report_each(run, other, tmp_path):
    out = tmp_path / "page.html"
    done = fastfcn("report", run, "--against", other, "--against", run, "--out", out, "--workers", "0")
    assert done.code == 0, done.err
    assert not out.exists()
    for compared in (other, run):
        page = (tmp_path / f"page_vs_{compared.name}.html").read_text(encoding="utf-8")
        assert f"{run.name} vs. {compared.name}" in page
