"""benchmarks/scaling.py: what is measured, what is skipped, that an interrupted run continues, and the picture."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from onnx import TensorProto, helper
from PIL import Image

import scaling
from fastfcn import recipes
from scaling import Plan, Point
from speed_peers.scaling_chart import line_of
from tests.helpers.tiny import NARROW

TINY = Point("fastfcn", side=64, classes=5, batch=2, threads=1)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """The tiny network, and in place of its ONNX file one that returns the channel with the largest value."""
    plan = Plan("demo", NARROW, tmp_path_factory.mktemp("onnx"), seconds=0.01)
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", "height", "width", 3])
    labels = helper.make_tensor_value_info("labels", TensorProto.INT64, ["batch", "height", "width"])
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ArgMax", ["pixels"], ["labels"], axis=3, keepdims=0),
    ]
    graph = helper.make_graph(nodes, "channels", [image], [labels])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    plan.onnx_file(TINY.classes).write_bytes(model.SerializeToString())
    return plan


def row(point: Point, ms: float, memory: float = 100.0) -> dict:
    return asdict(point) | {"ms_per_image": ms, "memory_mib": memory, "calls": 3}


@pytest.mark.parametrize("program", scaling.PROGRAMS)
def test_a_program_is_measured(program: str, plan: Plan):
    if program != "fastfcn":
        pytest.importorskip(program)
    result = scaling.measure(replace(TINY, program=program), plan)
    assert result["ms_per_image"] > 0
    assert result["calls"] >= 1
    assert result["memory_mib"] is None or result["memory_mib"] >= 0
    assert 1 <= result["classes_found"] <= TINY.classes


def test_the_network_of_the_recipe_is_exported(plan: Plan, monkeypatch):
    written = []
    monkeypatch.setattr(scaling, "trace", lambda model, recipe, with_logits: model)
    monkeypatch.setattr(scaling.onnx, "write", lambda program, metadata, path: written.append((program, path)))
    scaling.export(plan, 7)
    ((program, path),) = written
    assert program.head.classifier.out_channels == 7
    assert path == plan.onnx_file(7)


def test_one_quantity_changes_at_a_time():
    found = scaling.points(scaling.arguments([]))
    assert len(found) == len(set(found)) == 3 * (5 + 3 + 4 + 4)
    base = asdict(Point("fastfcn"))
    for point in found:
        changed = {name for name, value in asdict(point).items() if value != base[name]} - {"program"}
        assert len(changed) <= 1 or changed == {"side", "threads"}


def test_too_large_images_are_skipped_with_a_reason(monkeypatch):
    small = Point("fastfcn", side=256)
    large = replace(small, side=1024)
    monkeypatch.setattr(scaling, "free_memory", lambda: 1000.0)
    assert scaling.too_large(large, {}, 20) == ""
    assert scaling.too_large(large, {small: row(small, 1000, 10)}, 20) == ""
    expected = {
        "32 s per image expected, the limit is 20 s": row(small, 2000, 10),
        "1600 MiB expected, 1000 MiB are free": row(small, 1, 100),
        "256x256 was not measured either": asdict(small) | {"skipped": "no memory"},
    }
    for reason, before in expected.items():
        assert scaling.too_large(large, {small: before}, 20) == reason
    other = replace(small, program="openvino")
    assert scaling.too_large(large, {other: row(other, 9999)}, 20) == ""


def test_an_interrupted_run_continues(tmp_path: Path, monkeypatch):
    out, calls = tmp_path / "scaling.json", []

    def measured(point: Point, plan: Plan) -> dict:
        calls.append(point)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return {"ms_per_image": 1.0, "memory_mib": 2.0, "calls": 3}

    monkeypatch.setattr(scaling, "measured", measured)
    command = ["--programs", "fastfcn", "--sides", "256", "512", "--classes", "--batches", "--out", str(out)]
    with pytest.raises(KeyboardInterrupt):
        scaling.main(command)
    scaling.main(command)
    record = json.loads(out.read_text())
    assert calls[0] == Point("fastfcn", side=256)
    assert calls[1] == calls[2]
    assert [scaling.point_of(row) for row in record["rows"]] == scaling.points(scaling.arguments(command))
    assert record["command"].endswith("--out scaling.json")
    assert {"date", "machine", "versions", "recipe", "notes"} <= record.keys()


def test_a_process_that_fails_is_a_result(plan: Plan, monkeypatch):
    def fail(*arguments: object, **options: object) -> None:
        raise MemoryError("the system killed the process")

    monkeypatch.setattr(scaling, "in_fresh_process", fail)
    assert scaling.measured(TINY, plan) == {"skipped": "the system killed the process"}


def test_the_picture(tmp_path: Path):
    rows = [
        row(replace(Point(program), side=side), side * speed, side)
        for program, speed in (("fastfcn", 1), ("openvino", 2))
        for side in (512, 256, 1024)
    ]
    rows.append(asdict(Point("openvino", side=2048)) | {"skipped": "too large"})
    rows.append(row(Point("fastfcn", threads=1), 999))
    assert line_of(rows, "fastfcn", "side", lambda row: row["ms_per_image"]) == [(256, 256), (512, 512), (1024, 1024)]
    record = {"recipe": "demo", "machine": {"processor": "Abacus"}, "rows": rows}
    scaling.draw(record, tmp_path / "scaling.png")
    colors = Image.open(tmp_path / "scaling.png").convert("RGB").getcolors()
    assert colors
    drawn = {f"#{red:02x}{green:02x}{blue:02x}" for _, (red, green, blue) in colors}
    assert {"#0f7c74", "#c77d2b"} <= drawn
    assert "#5b74b8" not in drawn


def test_the_recipe_exists():
    assert recipes.load(scaling.RECIPE)
