"""The table of measurements: two networks side by side, and warnings."""

import json
from io import StringIO

import pytest

from fastfcn.bench import bench as benches
from fastfcn.bench import flops, measure, timing
from fastfcn.bench.measure import Settings, Subject, measure_inference
from fastfcn.cli.tables.bench import bench_table
from fastfcn.utils.console import SafeConsole
from tests.helpers.tiny import tiny_recipe

TINY = Settings(runs=3, accelerator="cpu")


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Skip the warm-up and the matrix products."""
    monkeypatch.setattr(timing, "WARM_SECONDS", 0)
    monkeypatch.setattr(flops, "matrix_peak", lambda device, dtype: 1e11)


@pytest.fixture
def subject() -> Subject:
    return Subject("tiny", tiny_recipe())


def record(*results: dict) -> dict:
    return benches._record(list(results), 1.0)


def result_of(name: str, part: str, measured: dict) -> dict:
    return {"name": name, "recipe": name, "changes": [], "weights": "random", part: measured}


def shown(record: dict) -> str:
    text = StringIO()
    SafeConsole(width=120, file=text).print(bench_table(record))
    return text.getvalue()


def test_two_networks_stand_side_by_side(subject):
    one = measure_inference(subject, TINY)
    twin = json.loads(json.dumps(one)) | {"images_per_second": one["images_per_second"] / 2}
    text = shown(record(result_of("tiny", "inference", one), result_of("twin", "inference", twin)))
    line = next(line for line in text.splitlines() if "images/s" in line).split()
    assert float(line[-1]) == 2.0
    assert float(line[1]) == pytest.approx(2 * float(line[2]), rel=0.01)
    assert "1 x 64x96, 32-true" in text
    assert "first call" in text
    assert "training" not in text


def test_a_busy_machine_is_reported(subject):
    one = measure_inference(subject, TINY)
    one["machine"]["threads"], one["cores_busy"] = 4, 1.5
    copies = [json.loads(json.dumps(one | {"cores_busy": busy})) for busy in (1.5, 3.9)]
    text, quiet = (shown(record(result_of("tiny", "inference", copy))) for copy in copies)
    assert "Only 1.5 of 4" in " ".join(text.split())
    assert "Only" not in quiet


def test_too_little_memory_is_shown(subject):
    one = measure.training_setting(subject, TINY) | {"out_of_memory": "20 GiB"}
    text = shown(record(result_of("a", "training", one), result_of("b", "training", one)))
    assert text.count("out of memory") == 8
