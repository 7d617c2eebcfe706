"""The comparison of the slim family: equal training, scores, timing, resuming and the table."""

import json
from pathlib import Path

import pytest

import markdown_tables
import slim
from fastfcn import recipes
from fastfcn.bench import bench
from fastfcn.errors import RecipeError
from fastfcn.training.run import Run
from tests.helpers.tiny import NARROW, write_streets

MACHINE = {"processor": "EPYC", "gpu": None, "threads": 2}
MARK = markdown_tables.marker(slim.SCRIPT)
DOCUMENT = f"Before\n{MARK}\nold\n{markdown_tables.END}\nafter\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> Path:
    """A folder with data, two narrow recipes, and room for results and the document."""
    write_streets(tmp_path / "data")
    for name, neck in (("jpu", "neck.width=8"), ("plain", 'neck={kind="none"}')):
        changes = [change for change in NARROW if not change.startswith(("name=", "neck."))]
        one = recipes.load("demo", [*changes, f"name={name}", neck, "optim.batch=2"])
        one.save(tmp_path / f"{name}.toml")
    (tmp_path / "slim.md").write_text(DOCUMENT)
    # The measuring processes take seconds to start; what they do is the same here.
    monkeypatch.setattr(bench, "in_fresh_process", lambda function, *args, progress: function(*args, progress))
    monkeypatch.setattr(slim, "RESULTS", tmp_path)
    monkeypatch.setattr(slim, "DOCUMENT", tmp_path / "slim.md")
    return tmp_path


def command(place: Path, *more: str) -> list[str]:
    names = [str(place / "jpu.toml"), str(place / "plain.toml")]
    options = ["--steps", "2", "--crop", "32x48", "--precision", "32-true", "--workers", "0", "--accelerator", "cpu"]
    folders = ["--data", str(place / "data"), "--runs", str(place / "runs")]
    return [*names, *folders, *options, "--size", "64x96", "--repeats", "1", *more]


def test_recipes_are_trained_alike_scored_and_timed(place: Path, capsys):
    slim.main(command(place, "--change", "optim.lr=0.02"))
    record = json.loads((place / "slim_camvid.json").read_text())
    assert list(record["results"]) == ["jpu", "plain"]
    for name, result in record["results"].items():
        used = recipes.load(place / "runs" / name / "recipe.toml")
        assert (used.optim.steps, used.eval.every, used.data.crop, used.optim.lr) == (2, 2, (32, 48), 0.02)
        validated = [line for line in Run(place / "runs" / name).read_log() if "validation" in line]
        assert [line["step"] for line in validated] == [2]
        assert result["scores"]["miou"] == pytest.approx(validated[0]["validation"]["miou"], abs=1e-3)
        assert list(result["speed"]) == ["64x96"]
        assert result["speed"]["64x96"]["images_per_second"] > 0
    jpu, plain = record["results"].values()
    assert jpu["speed"]["64x96"]["gflops"] > plain["speed"]["64x96"]["gflops"] > 0
    assert jpu["parameters"] > plain["parameters"]
    assert (record["steps"], record["batch"], record["crop"], record["pretrained"]) == (2, 2, [32, 48], "none")
    text = (place / "slim.md").read_text()
    assert text.startswith(f"Before\n{MARK}\n2 steps of 2 crops of 32x48 at 32-true, from random weights;")
    assert f"| `jpu` | {jpu['scores']['miou']:.2f} |" in text
    assert text.endswith(f"(1.00x) |\n{markdown_tables.END}\nafter\n")
    assert capsys.readouterr().out.count("`jpu`") == 1


def test_the_same_command_goes_on_and_trains_nothing_twice(place: Path, monkeypatch):
    timed = []

    def clock(run: Run, size: tuple[int, int], asked: object) -> tuple[dict, dict]:
        timed.append((run.folder.name, size))
        if len(timed) == 1:
            raise KeyboardInterrupt
        return fast(2.0), {"parameters": 1, "machine": MACHINE, "versions": {}}

    monkeypatch.setattr(slim, "timed", clock)
    with pytest.raises(KeyboardInterrupt):
        slim.main(command(place))
    before = {path: path.stat().st_mtime_ns for path in place.glob("runs/*/*.*s*")}
    assert {path.name for path in before} >= {"weights.safetensors", "last.safetensors", "scores.json"}
    slim.main(command(place, "--size", "32x48"))
    assert timed == [("jpu", (64, 96))] + [(name, size) for size in ((64, 96), (32, 48)) for name in ("jpu", "plain")]
    for path in place.glob("runs/*/*.safetensors"):
        assert path.stat().st_mtime_ns == before[path]
    assert set(json.loads((place / "slim_camvid.json").read_text())["results"]["plain"]["speed"]) == {"64x96", "32x48"}


def test_other_steps_are_another_run(place: Path):
    plain = str(place / "plain.toml")
    asked = slim.arguments(command(place))
    slim.trained(slim.changed(plain, asked), asked)
    asked = slim.arguments(command(place, "--steps", "3"))
    with pytest.raises(RecipeError, match=r"optim\.steps: 2 in the run, 3 in this recipe"):
        slim.trained(slim.changed(plain, asked), asked)


def fast(speed: float, disturbed: bool = False) -> dict:
    return {"images_per_second": speed, "gflops": 10.0, "disturbed": disturbed}


def record(*speeds: float, **more: object) -> dict:
    scores = {"miou": 70.0, "pixel_accuracy": 94.0}
    results = {
        f"r{index}": {"scores": scores, "parameters": 2.5e6, "speed": {"360x480": fast(speed, index == 1)}}
        for index, speed in enumerate(speeds)
    }
    facts = {"steps": 9, "batch": 8, "crop": [1, 2], "precision": "bf16-mixed", "speed_precision": "32-true"}
    return facts | {"pretrained": "a.npz", "command": "c", "date": "d", "machine": MACHINE, "results": results} | more


def test_figures_are_compared_with_the_last_line():
    text = slim.table(record(4.0, 1.0))
    assert "| `r0` | 70.00 | 94.00 | 2.5 | 10.0 | 4 (4.00x) |" in text.splitlines()
    assert "| `r1` | 70.00 | 94.00 | 2.5 | 10.0 | 1 (1.00x) |" in text.splitlines()
    assert "the ImageNet weights of `a.npz`" in text
    assert "EPYC, 2 threads" in text
    assert "the machine was busy during timing" in text
    assert "disturbed" not in slim.table(record(4.0))


def test_every_file_of_results_has_its_table(place: Path):
    assert slim.tables() == "No results yet."
    (place / "slim_camvid.json").write_text(json.dumps(record(4.0, 1.0)))
    (place / "slim_camvid_r18.json").write_text(json.dumps(record(3.0, 1.0, pretrained="none")))
    slim.main(["--table"])
    text = (place / "slim.md").read_text()
    assert text.index("4 (4.00x)") < text.index("from random weights") < text.index("3 (3.00x)")


def test_the_command_on_record_names_no_folder():
    args = ["x", "--data", "/a/CamVid", "--change", "backbone.pretrained=/b/r50.npz", "--runs", "/c"]
    message = slim.command(slim.arguments(args))
    assert "/" not in message.replace("benchmarks/", "")
    assert "--change backbone.pretrained=r50.npz" in message


def test_the_document_shows_what_was_measured():
    text = slim.DOCUMENT.read_text(encoding="utf-8")
    tables = markdown_tables.with_tables(text, slim.SCRIPT, slim.tables())
    assert tables == text, "run: python benchmarks/slim.py --table"
