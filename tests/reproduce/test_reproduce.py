"""`fastfcn reproduce`: from a URL to a verdict, with a local server and random weights."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastfcn import build, recipes
from fastfcn.evaluation.evaluate import evaluate
from fastfcn.reproduce import reproduce
from fastfcn.reproduce.plan import describe, has_scores, make_plan
from fastfcn.training.run import Run, TrainingResult
from fastfcn.utils.machine import Machine
from fastfcn.weights.convert import convert
from tests.helpers.command import Finished, fastfcn
from tests.helpers.file_server import FileServer, file_server
from tests.helpers.openmmlab_files import openmmlab_state, save_0x
from tests.helpers.tiny import tiny_model, tiny_recipe, write_streets

CLASSES = list(build.description(tiny_recipe()).class_names)
MACHINE = ("--accelerator", "cpu", "--workers", 0)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("FASTFCN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with file_server() as server:
        yield server


class Row:
    """A tiny published result: the demo dataset, a checkpoint in mmsegmentation's format, and its true scores."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.data = write_streets(folder / "streets", 4, 2)
        plain = save_0x(folder / "plain.pth", openmmlab_state(tiny_model()), CLASSES)
        self.content = plain.read_bytes()
        self.hash = hashlib.sha256(self.content).hexdigest()
        self.file = f"tiny_20210928_053722-{self.hash[:8]}.pth"
        tiny_recipe().save(folder / "plain.toml")
        convert(plain, str(folder / "plain.toml"), folder / "plain.safetensors")
        self.scores = {
            figure: evaluate(folder / "plain.safetensors", self.data, Machine("cpu", workers=0), tta=tta).miou
            for figure, tta in (("miou", False), ("miou_tta", True))
        }


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> Row:
    return Row(tmp_path_factory.mktemp("row"))


def recipe_file(folder: Path, row: Row, weights: str | None = None, *changes: str, **shift: float | None) -> Path:
    """The recipe with published scores: the true ones plus `shift`, rounded; None omits a score."""
    lines = ["[published]"]
    for figure, score in row.scores.items():
        if (by := shift.get(figure, 0.0)) is not None:
            lines.append(f"{figure} = {score + by:.2f}")
    lines += [f'weights = "{weights}"'] if weights else []
    lines.append('source = "https://example.org/table"')
    path = folder / "row.toml"
    path.write_text(tiny_recipe(*changes).text.rstrip("\n") + "\n\n" + "\n".join(lines) + "\n")
    return path


def run_command(recipe: Path, row: Row, out: Path, *more: object) -> Finished:
    done = fastfcn("reproduce", recipe, "--data", row.data, "--out", out, *MACHINE, *more)
    assert "Traceback" not in done.err, done.err
    return done


def read_verdict(out: Path) -> dict[str, Any]:
    return json.loads((out / "verdict.json").read_text())


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# From download to verdict.


def test_the_published_scores_hold(server: FileServer, row: Row, tmp_path: Path):
    server.files[f"/v0.5/{row.file}"] = row.content
    recipe = recipe_file(tmp_path, row, f"{server.address}/v0.5/{row.file}")
    done = run_command(recipe, row, tmp_path / "out")
    assert done.code == 0, done
    verdict = read_verdict(tmp_path / "out")
    assert (verdict["recipe"], verdict["verdict"], verdict["tolerance"]) == ("tiny", "holds", 0.1)
    assert verdict["weights"] == {
        "file": row.file, "sha256": row.hash, "kind": "published", "address": f"{server.address}/v0.5/{row.file}",
    }  # fmt: skip
    assert verdict["data"] == {"dataset": "streets", "folder": "streets", "split": "val", "images": 2}
    assert {"command", "date", "source"} <= verdict.keys()
    assert {"fastfcn", "torch", "python"} <= verdict["versions"].keys()
    for figure, score in row.scores.items():
        result = verdict["figures"][figure]
        assert result["published"] == round(score, 2)
        assert result["measured"] == pytest.approx(score, abs=1e-4)
        assert result["difference"] == pytest.approx(score - round(score, 2), abs=1e-3)
        assert (result["verdict"], result["device"]) == ("holds", "cpu")
    line = (tmp_path / "out/row.md").read_text().rstrip("\n")
    assert line in done.out.splitlines()
    one, many = (f"{score:.2f}" for score in row.scores.values())
    assert line.startswith(f"| `tiny` | streets val | {one} | {one} | {many} | {many} | 0.1 | holds | cpu | 20")
    assert len(server.requests) == 1


@pytest.mark.parametrize("figure", ["miou", "miou_tta"])
def test_a_score_that_differs(server: FileServer, row: Row, tmp_path: Path, figure: str):
    server.files[f"/{row.file}"] = row.content
    recipe = recipe_file(tmp_path, row, f"{server.address}/{row.file}", **{figure: 0.5})
    done = run_command(recipe, row, tmp_path / "out")
    assert done.code == 1
    verdict = read_verdict(tmp_path / "out")
    assert verdict["verdict"] == "differs"
    assert {name: figure_verdict["verdict"] for name, figure_verdict in verdict["figures"].items()} == {
        "miou": "holds", "miou_tta": "holds", figure: "differs",
    }  # fmt: skip
    assert verdict["figures"][figure]["difference"] == pytest.approx(-0.5, abs=0.006)
    assert "differs" in done.out
    assert run_command(recipe, row, tmp_path / "out", "--tolerance", 0.51).code == 0
    assert read_verdict(tmp_path / "out")["tolerance"] == 0.51


def test_an_interrupted_download_is_resumed(server: FileServer, row: Row, tmp_path: Path):
    server.files[f"/{row.file}"] = row.content
    recipe = recipe_file(tmp_path, row, f"{server.address}/{row.file}")
    server.break_after = 100_000
    done = run_command(recipe, row, tmp_path / "out", "--no-tta")
    assert done.code == 2
    assert "it resumes" in done.err
    assert files(tmp_path / "cache") == [f"{row.file}.part"]
    assert files(tmp_path / "out") == []
    server.break_after = None
    assert run_command(recipe, row, tmp_path / "out", "--no-tta").code == 0
    assert [request.range for request in server.requests] == [None, "bytes=100000-"]
    assert list(read_verdict(tmp_path / "out")["figures"]) == ["miou"]


def test_a_wrong_hash_is_refused(server: FileServer, row: Row, tmp_path: Path):
    server.files["/tiny-2cccc1ad.pth"] = row.content
    done = run_command(recipe_file(tmp_path, row, f"{server.address}/tiny-2cccc1ad.pth"), row, tmp_path / "out")
    assert done.code == 2
    assert f"the sha256 is {row.hash[:16]}..., expected 2cccc1ad" in done.err
    assert files(tmp_path / "out") == files(tmp_path / "cache") == []


def test_both_variants_of_a_url_are_tried(server: FileServer, row: Row, tmp_path: Path):
    once, twice = f"/v0.5/fastfcn/tiny/{row.file}", f"/v0.5/fastfcn/fastfcn/tiny/{row.file}"
    recipe = recipe_file(tmp_path, row, server.address + twice)
    done = run_command(recipe, row, tmp_path / "out", "--no-tta")
    assert done.code == 2  # neither exists
    assert server.address + once in done.err
    assert server.address + twice in done.err
    server.files[once] = row.content
    assert run_command(recipe, row, tmp_path / "out", "--no-tta").code == 0
    assert [request.path for request in server.requests] == [once, twice, once]


def test_without_a_network(server: FileServer, row: Row, tmp_path: Path):
    recipe = recipe_file(tmp_path, row, f"{server.address}/fastfcn/fastfcn/{row.file}")
    server.server_close()
    done = run_command(recipe, row, tmp_path / "out")
    assert done.code == 2
    assert done.err.count("Cannot download") == 1  # other variants are not tried: they would fail too
    for word in (f"{server.address}/fastfcn/{row.file}", "--checkpoint FILE", "--train", "Error:"):
        assert word in done.err


# Results are reused.


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("done already")


def test_a_second_run_computes_nothing(server: FileServer, row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    server.files[f"/{row.file}"] = row.content
    recipe = recipe_file(tmp_path, row, f"{server.address}/{row.file}")
    assert run_command(recipe, row, tmp_path / "out").code == 0
    first = read_verdict(tmp_path / "out")
    for name in ("fetch_published", "convert", "evaluate"):
        monkeypatch.setattr(reproduce, name, refuse)
    assert run_command(recipe, row, tmp_path / "out").code == 0
    second = read_verdict(tmp_path / "out")
    assert second["figures"] == first["figures"]
    assert second["weights"] == first["weights"]


def test_single_scale_result_is_reused_when_tta_is_added(row: Row, tmp_path: Path, monkeypatch):
    checkpoint = tmp_path / row.file
    checkpoint.write_bytes(row.content)
    recipe = recipe_file(tmp_path, row)
    measured = []

    def recording(*arguments: Any, **named: Any) -> Any:
        measured.append(named["tta"])
        return evaluate(*arguments, **named)

    monkeypatch.setattr(reproduce, "evaluate", recording)
    options = ("--checkpoint", checkpoint)
    assert run_command(recipe, row, tmp_path / "out", *options, "--no-tta").code == 0
    assert run_command(recipe, row, tmp_path / "out", *options).code == 0
    assert measured == [False, True]
    mask = sorted((row.data / "labels/val").iterdir())[0]
    os.utime(mask, (1, 1))  # the data may have changed
    assert run_command(recipe, row, tmp_path / "out", *options, "--no-tta").code == 0
    assert measured == [False, True, False]


def test_other_weights_are_converted_and_evaluated_again(row: Row, tmp_path: Path):
    recipe = recipe_file(tmp_path, row)
    for name, shift in (("a.pth", 0.0), ("b.pth", 3.0)):
        model = tiny_model()
        model.head.classifier.bias.data[0] += shift
        save_0x(tmp_path / name, openmmlab_state(model), CLASSES)
        run_command(recipe, row, tmp_path / "out", "--checkpoint", tmp_path / name, "--no-tta")
        verdict = read_verdict(tmp_path / "out")
        assert verdict["weights"]["file"] == name
        assert (verdict["figures"]["miou"]["difference"] == pytest.approx(0.0, abs=0.006)) == (shift == 0.0)


def test_a_folder_of_another_recipe_is_refused(row: Row, tmp_path: Path):
    recipe = recipe_file(tmp_path, row)
    (tmp_path / "a.pth").write_bytes(row.content)
    assert run_command(recipe, row, tmp_path / "out", "--checkpoint", tmp_path / "a.pth", "--no-tta").code == 0
    recipe.write_text(recipe.read_text().replace('name = "tiny"', 'name = "other"'))
    done = run_command(recipe, row, tmp_path / "out", "--checkpoint", tmp_path / "a.pth", "--no-tta")
    assert done.code == 2
    assert "contains another recipe's results: tiny" in done.err


# Custom weights.


def test_a_checkpoint_of_another_training(row: Row, tmp_path: Path):
    recipe = recipe_file(tmp_path, row, "https://example.org/tiny-2cccc1ad.pth", miou=0.8)
    (tmp_path / "mine.pth").write_bytes(row.content)
    done = run_command(recipe, row, tmp_path / "out", "--checkpoint", tmp_path / "mine.pth", "--no-tta")
    assert done.code == 0
    assert "is not the published file (...-2cccc1ad): the verdict is about mine.pth." in done.out
    verdict = read_verdict(tmp_path / "out")
    assert (verdict["tolerance"], verdict["weights"]["kind"], verdict["weights"]["address"]) == (1.0, "custom", None)


def test_a_checkpoint_with_a_wrong_hash_in_its_name(row: Row, tmp_path: Path):
    (tmp_path / "tiny-2cccc1ad.pth").write_bytes(row.content)
    recipe = recipe_file(tmp_path, row)
    done = run_command(recipe, row, tmp_path / "out", "--checkpoint", tmp_path / "tiny-2cccc1ad.pth")
    assert done.code == 2
    assert f"the sha256 is {row.hash[:16]}..., but its name has 2cccc1ad" in done.err
    done = run_command(recipe, row, tmp_path / "out", "--checkpoint", tmp_path / "nothing.pth")
    assert done.code == 2
    assert "There is no file" in done.err


def test_a_weights_file_is_not_converted(row: Row, tmp_path: Path):
    weights = row.folder / "plain.safetensors"
    done = run_command(recipe_file(tmp_path, row), row, tmp_path / "out", "--checkpoint", weights, "--no-tta")
    assert done.code == 0
    assert read_verdict(tmp_path / "out")["weights"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert files(tmp_path / "out") == ["row.md", "scores_miou.json", "verdict.json"]
    assert "different recipe" not in done.out
    other = recipe_file(tmp_path, row, None, "optim.lr=0.5", "eval.flip=false")
    done = run_command(other, row, tmp_path / "out", "--checkpoint", weights, "--no-tta")
    assert f"{weights} was trained with a different recipe; differing keys: optim.lr, eval.flip." in done.out
    assert read_verdict(tmp_path / "out")["weights"]["other_recipe_in"] == ["optim.lr", "eval.flip"]


# Training.

SHORT = ("optim.steps=2", "eval.every=2")


def test_training_first(row: Row, tmp_path: Path):
    recipe = recipe_file(tmp_path, row, None, *SHORT)
    done = run_command(recipe, row, tmp_path / "out", "--train", "--tolerance", 100)
    assert done.code == 0, done
    assert f"--data {row.data} --out {tmp_path / 'out'} --train --devices 1" in done.out
    assert "torchrun --nnodes 2 --nproc-per-node 1" in done.out
    run = Run(tmp_path / "out/run")
    verdict = read_verdict(tmp_path / "out")
    assert verdict["weights"]["kind"] == "trained"
    assert verdict["weights"]["sha256"] == hashlib.sha256(run.last.read_bytes()).hexdigest()
    last = run.read_log()[-1]["validation"]["miou"]
    assert verdict["figures"]["miou"]["measured"] == pytest.approx(last, abs=1e-3)
    before = run.log.read_bytes(), run.last.read_bytes()
    assert run_command(recipe, row, tmp_path / "out", "--train", "--tolerance", 100).code == 0
    assert (run.log.read_bytes(), run.last.read_bytes()) == before
    assert read_verdict(tmp_path / "out")["figures"] == verdict["figures"]


def test_an_interrupted_training_is_resumed(row: Row, tmp_path: Path, monkeypatch):
    recipe = recipe_file(tmp_path, row, None, *SHORT)
    resumed = []

    def stopped(_recipe: object, _data: object, out: Path, _machine: object, resume: bool) -> TrainingResult:
        resumed.append(resume)
        out.mkdir(parents=True, exist_ok=True)
        Run(out).append([{"step": 1, "loss": 1.0}])
        return TrainingResult(out, step=1, steps=2, miou=None, best_step=0)

    monkeypatch.setattr(reproduce, "train", stopped)
    for _ in range(2):
        done = run_command(recipe, row, tmp_path / "out", "--train")
        assert done.code == 130
        assert "Run the same command to continue" in done.out
    assert resumed == [False, True]
    assert "verdict.json" not in files(tmp_path / "out")


def test_two_processes(row: Row, tmp_path: Path):
    recipe = recipe_file(tmp_path, row, None, *SHORT)
    command = [sys.executable, "-m", "fastfcn", "reproduce", recipe, "--data", row.data, "--out", tmp_path / "out",
               *MACHINE, "--train", "--tolerance", 100, "--devices", 2]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    verdict = read_verdict(tmp_path / "out")
    assert done.stdout.count("| `tiny` |") == 1
    last = Run(tmp_path / "out/run").last
    for figure, tta in (("miou", False), ("miou_tta", True)):
        scores = evaluate(last, row.data, Machine("cpu", workers=0), tta=tta)
        assert verdict["figures"][figure]["measured"] == pytest.approx(scores.miou, abs=1e-4)


# Plan and errors.


def test_dry_run(server: FileServer, row: Row, tmp_path: Path):
    recipe = recipe_file(tmp_path, row, f"{server.address}/fastfcn/fastfcn/{row.file}")
    done = run_command(recipe, row, tmp_path / "out", "--dry-run")
    assert done.code == 0
    assert (server.requests, files(tmp_path / "out")) == ([], [])
    score, words = row.scores["miou_tta"], done.out
    for word in (f"{server.address}/fastfcn/{row.file}", f"sha256 {row.hash[:8]}", "streets val", "ready",
                 f"published {score:.2f}", "holds within 0.1", "fastfcn convert", "--tta"):  # fmt: skip
        assert word in words
    done = fastfcn("reproduce", recipe, "--data", tmp_path / "nowhere", "--train", "--devices", 4, "--dry-run")
    assert done.code == 0
    for word in ("not ready", "does not exist", "4 steps", "--train --devices 4",
                 "torchrun --nnodes 2 --nproc-per-node 4", "--train\n", "holds within 1 "):  # fmt: skip
        assert word in done.out


def test_data_problems_are_reported_before_downloading(server: FileServer, row: Row, tmp_path: Path):
    recipe = recipe_file(tmp_path, row, f"{server.address}/{row.file}")
    data = write_streets(tmp_path / "streets", 1, 2)
    sorted((data / "labels/val").iterdir())[0].unlink()
    done = fastfcn("reproduce", recipe, "--data", data, "--out", tmp_path / "out", *MACHINE)
    assert done.code == 2
    assert "val: 1 images have no mask" in done.err
    assert f"fastfcn check {data} --dataset streets" in done.err
    assert (server.requests, files(tmp_path / "out")) == ([], [])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), ("has no URL of published weights", "--checkpoint FILE", "--train")),
        (("--train", "--checkpoint", "x.pth"), ("exclude each other",)),
        (("--split", "night"), ("has no split 'night'",)),
    ],
)
def test_invalid_options(row: Row, tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]):
    done = run_command(recipe_file(tmp_path, row), row, tmp_path / "out", *options)
    assert done.code == 2
    for word in words:
        assert word in done.err


def test_recipes_without_published_scores(row: Row, tmp_path: Path):
    done = fastfcn("reproduce", "fastfcn_r50_psp_camvid", "--data", row.data)
    assert done.code == 2
    assert "Recipe 'fastfcn_r50_psp_camvid' has no published mIoU" in done.err
    assert "fastfcn_r50_psp_cityscapes_80k_b8" in done.err
    assert "demo" not in done.err
    done = run_command(recipe_file(tmp_path, row, miou=None, miou_tta=None), row, tmp_path / "out")
    assert (done.code, "has no published mIoU" in done.err) == (2, True)
    done = run_command(recipe_file(tmp_path, row, miou=None), row, tmp_path / "out", "--no-tta")
    assert (done.code, "only a multi-scale mIoU is published" in done.err) == (2, True)


def test_every_published_result_has_a_plan(tmp_path: Path):
    names = [name for name in recipes.names() if has_scores(recipes.load(name))]
    assert len(names) >= 18
    for name in names:
        lines = list(describe(make_plan(name, tmp_path), Machine("cpu")))
        assert any("published" in line for line in lines)
