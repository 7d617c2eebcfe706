"""benchmarks/gpu.py: planning, time limits, and that nothing measured on a CPU becomes a figure of a GPU."""

import ast
import json
import sys
from pathlib import Path

import pytest

import gpu
import gpu_checks
import gpu_record
from fastfcn.losses import LovaszLoss
from speed_peers import comparisons, measure, results
from tests.helpers.paths import ROOT


@pytest.mark.parametrize("trial", [False, True])
def test_the_parts_fit_their_time_and_name_their_files(trial: bool, tmp_path: Path):
    args = gpu.arguments(["--try"] if trial else ["--camvid", "CamVid"])
    parts = gpu.parts(args, tmp_path, tmp_path)
    assert [part.name for part in parts] == list(gpu.LIMITS)[: -1 if trial else None]  # compilation takes minutes
    if not trial:
        assert sum(part.seconds for part in parts) + gpu.START_SECONDS == pytest.approx(600)
    for part in parts:
        assert (ROOT / part.arguments[0]).is_file()
        options = dict(zip(part.arguments[1:], part.arguments[2:], strict=False))
        assert options["--device"] == ("cpu" if trial else "cuda")
        assert Path(options["--out"]).name == f"{'try' if trial else 'gpu'}_{part.name}.json"


def test_chosen_parts_get_all_the_time(tmp_path: Path):
    (part,) = gpu.parts(gpu.arguments(["--only", "training", "--minutes", "2"]), tmp_path, tmp_path)
    assert (part.name, part.seconds) == ("training", pytest.approx(110))
    assert "camvid" not in [part.name for part in gpu.parts(gpu.arguments([]), tmp_path, tmp_path)]
    with pytest.raises(SystemExit):
        gpu.arguments(["--only", "speed"])


FOREVER = "import threading; threading.Event().wait()"


@pytest.mark.parametrize(
    ("program", "seconds", "result"),
    [
        ("pass", 60, "complete"),
        ("raise SystemExit(3)", 60, "failed with exit code 3"),
        (FOREVER, 0.5, "stopped at the time limit"),
    ],
)
def test_a_part_that_fails_or_takes_too_long_is_reported(program: str, seconds: float, result: str):
    outcome = gpu.run(gpu.Part("part", ("-c", program), seconds), gpu.environment_of(ROOT))
    assert outcome["result"].startswith(result)


def test_images_are_drawn(tmp_path: Path):
    exec(gpu.DRAW.format(folder=str(tmp_path), size=(64, 128)), {})
    assert len(sorted(tmp_path.glob("*.jpg"))) == 3


def test_without_a_gpu_nothing_is_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpu, "in_python", lambda code, environment: "False")
    monkeypatch.setattr(gpu, "run", lambda part, environment: pytest.fail("a part was run"))
    with pytest.raises(SystemExit, match="finds no NVIDIA GPU"):
        gpu.main([])


def test_a_cpu_cannot_write_figures_of_a_gpu(tmp_path: Path):
    with pytest.raises(ValueError, match=r"gpu_checks.json is for figures of a GPU, not of cpu"):
        gpu_record.Record(tmp_path / "gpu_checks.json", "cpu")
    path = tmp_path / "gpu_checks.json"
    path.write_text(json.dumps({"machine": {"gpu": None}, "rows": []}))
    with pytest.raises(ValueError, match="measured without a GPU"):
        gpu.table(path)


def test_results_are_written_one_by_one_and_failures_too(tmp_path: Path):
    record = gpu_record.Record(tmp_path / "try_checks.json", "cpu")

    def fail() -> str:
        assert len(json.loads(record.path.read_text())["rows"]) == 1
        raise RuntimeError("out of memory\nmore")

    record.add("first", lambda: "passed: 3")
    record.add("second", fail)
    rows = json.loads(record.path.read_text())["rows"]
    assert [row["result"] for row in rows] == ["passed: 3", "FAILED: RuntimeError: out of memory"]
    with pytest.raises(SystemExit):
        record.finish()


def test_the_tables(tmp_path: Path):
    row = {"name": "first", "result": "passed", "date": "2026-12-01 10:00", "command": "python x.py"}
    record = {"machine": {"gpu": "H200"}, "versions": {"torch": "2.11.0"}, "rows": [row]}
    (tmp_path / "gpu_checks.json").write_text(json.dumps(record))
    gpu.write_tables(tmp_path)
    text = (tmp_path / "gpu.md").read_text()
    for line in ("## Checks", "`python x.py`", "2026-12-01 10:00, H200, torch 2.11.0.", "| first | passed |"):
        assert f"\n{line}\n" in text


def test_what_to_bring(capsys: pytest.CaptureFixture[str]):
    gpu.main(["--needs"])
    text = capsys.readouterr().out
    assert "'mmsegmentation==1.2.2'" in text
    assert f"at most {gpu.LIMIT_MIB} MiB" in text


def test_a_peer_that_is_not_installed_is_skipped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(comparisons.NEEDED, "mmsegmentation", "not_installed")
    variants = measure.VariantResults(comparisons.Variant("a", "mmsegmentation", comparisons.OpenMMLab("psp", 19)))
    monkeypatch.setattr(measure, "Worker", lambda *arguments: pytest.fail("it was started"))
    variants.start(None, None)  # type: ignore[arg-type]
    assert variants.failed == "skipped: not_installed is not installed"
    assert results.skipped({"failed": variants.failed})
    assert results.cells({"variant": "a", "failed": variants.failed}, "b")[1] == "skipped"


def test_some_checks_pass_on_a_cpu():
    checks = gpu_checks.Checks("cpu")
    assert checks.loss(LovaszLoss(0.7, 0.5)).startswith("passed")
    assert checks.confusion_matrix() == "passed"
    assert "GPU" in checks.waits()


def test_the_front_runs_before_anything_is_installed():
    source = (ROOT / "benchmarks/gpu.py").read_text(encoding="utf-8")
    imports = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports}
    assert {str(module).split(".")[0] for module in modules} <= sys.stdlib_module_names
