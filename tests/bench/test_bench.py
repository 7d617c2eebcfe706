"""`fastfcn bench`: JSON, table and errors; and measurements on a busy machine."""

import json
from io import StringIO

import pytest

from benchmarks import bench_all
from fastfcn.bench import bench as benches
from fastfcn.bench.measure import Settings
from fastfcn.cli.tables.bench import bench_table
from fastfcn.errors import RecipeError
from fastfcn.utils.console import SafeConsole
from tests.cli.test_errors import assert_refused
from tests.helpers.command import fastfcn
from tests.helpers.tiny import tiny_weights


def shown(record: dict) -> str:
    text = StringIO()
    SafeConsole(width=120, file=text).print(bench_table(record))
    return text.getvalue()


def test_a_killed_process_ran_out_of_memory(monkeypatch):
    def killed(*_, **__):
        raise MemoryError("the system killed the process")

    monkeypatch.setattr(benches, "in_fresh_process", killed)
    record = benches.bench(["demo"], ["optim.batch=4"], Settings(size=(8, 9)))
    inference, training = record["results"][0]["inference"], record["results"][0]["training"]
    assert inference["out_of_memory"] == training["out_of_memory"] == "the system killed the process"
    assert (inference["size"], training["batch"]) == ([8, 9], 4)
    assert "out of memory" in shown(record)


def test_command(tmp_path):
    """In fresh processes, as a user runs it."""
    weights, out = tiny_weights(tmp_path / "w.safetensors"), tmp_path / "out" / "bench.json"
    done = fastfcn("bench", weights, "data.crop=[32, 64]", "--size", "32x48", "--runs", 2, "--batch", 2,
                   "--accelerator", "cpu", "--threads", 1, "--json", out)  # fmt: skip
    assert done.code == 0, done
    record = json.loads(out.read_text())
    assert record.keys() == {"command", "date", "seconds", "machine", "versions", "notes", "results"}
    assert record["command"].startswith("fastfcn bench ")
    assert record["machine"]["threads"] == 1
    (one,) = record["results"]
    assert one.keys() == {"name", "recipe", "changes", "weights", "inference", "training"}
    assert (one["recipe"], one["changes"], one["weights"]) == ("tiny", ["data.crop=[32, 64]"], str(weights))
    assert (one["inference"]["size"], one["training"]["crop"]) == ([32, 48], [32, 64])
    for part in (one["inference"], one["training"]):
        assert part["images_per_second"] == pytest.approx(1000 * part["batch"] / part["mean_ms"], rel=1e-3)
        assert part["runs"] == 2
        assert "machine" not in part
    assert "1 x 32x48" in done.out
    assert "2 x 32x64" in done.out


@pytest.mark.parametrize(
    ("busy", "p95", "device", "expected"),
    [
        (1.95, 1.03, "cpu", []),
        (1.6, 1.03, "cpu", ["training"]),
        (1.95, 1.2, "cpu", ["training"]),
        (0.5, 1.2, "cuda", []),
    ],
)
def test_disturbed_measurements_are_detected(busy, p95, device, expected):
    quiet = {"mean_ms": 1.0, "p50_ms": 1.0, "p95_ms": 1.0, "cores_busy": 2.0}
    result = {"inference": quiet, "training": quiet | {"p95_ms": p95, "cores_busy": busy}}
    assert bench_all.disturbed({"machine": {"device": device, "threads": 2}, "results": [result]}) == expected
    killed = {"inference": {"out_of_memory": "x"}, "training": {"out_of_memory": "x"}}
    assert bench_all.disturbed({"results": [killed]}) == []


def test_disturbed_measurements_are_repeated(monkeypatch):
    results = iter([["training"], [], ["not requested"]])
    monkeypatch.setattr(bench_all, "measure", lambda *_: {"results": [{"name": "a"}]})
    monkeypatch.setattr(bench_all, "disturbed", lambda _: next(results))
    assert bench_all.undisturbed("a", "cpu", "32-true")["results"] == [{"name": "a", "attempts": 2, "disturbed": []}]
    monkeypatch.setattr(bench_all, "disturbed", lambda _: ["inference"])
    (one,) = bench_all.undisturbed("a", "cpu", "32-true")["results"]
    assert (one["attempts"], one["disturbed"]) == (bench_all.ATTEMPTS, ["inference"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fastfcn_r50_psp_citiscapes"], ["There is no recipe"]),
        (["demo", "optim.batch=no"], ["optim.batch"]),
        (["no.safetensors"], ["There is no file no.safetensors"]),
        (["theirs.pth"], ["theirs.pth"]),
        (["demo", "--size", "512"], ["Invalid image size '512'", "512x1024"]),
        (["demo", "--size", "0x64"], ["Invalid image size '0x64'"]),
        (["demo", "--precision", "fp8"], ["fp8", "bf16-mixed"]),
        (["demo", "--accelerator", "tpu"], ["tpu", "cuda"]),
        (["demo", "--no-train", "--no-infer"], ["Nothing to measure"]),
        (["optim.batch=4"], ["Nothing to measure"]),
    ],
)
def test_refused_before_anything_is_measured(arguments, words, monkeypatch):
    monkeypatch.setattr(benches, "in_fresh_process", lambda *_, **__: pytest.fail("measured"))
    assert_refused(fastfcn("bench", *arguments), *words)


def test_a_batch_of_one_is_refused():
    assert fastfcn("bench", "demo", "--batch", 1).code == 2


def test_changes_that_do_not_fit_every_recipe():
    with pytest.raises(RecipeError, match=r"head\.codewords"):
        benches.bench(["demo"], ["head.codewords=3"])
