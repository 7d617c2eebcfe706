"""`fastfcn bench`: figures that agree with each other, what JSON and table say, and what it refuses."""

import json
from dataclasses import replace
from io import StringIO

import pytest
import torch
from benchmarks import bench_all
from rich.console import Console

from fastfcn import bench as benches
from fastfcn import build, flops, measure_speed, recipe, timing
from fastfcn.errors import RecipeError, UserError
from fastfcn.measure_speed import Settings, Subject, measure_inference, measure_training
from fastfcn.show_bench import bench_table
from tests.command import fastfcn
from tests.test_cli_errors import assert_refused
from tests.tiny import tiny_model, tiny_recipe, tiny_weights

TINY = Settings(runs=3, accelerator="cpu")
TIMES = {"runs", "warmup", "cores_busy", "mean_ms", "p50_ms", "p95_ms", "images_per_second"}
MEMORY = {"peak_memory_mib", "memory"}
FACTS = {"precision", "batch", "machine", "versions"}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """No second of warming up, and no second of matrix products."""
    monkeypatch.setattr(timing, "WARM_SECONDS", 0)
    monkeypatch.setattr(flops, "matrix_peak", lambda device, dtype: 1e11)


@pytest.fixture
def subject() -> Subject:
    return Subject("tiny", tiny_recipe())


def assert_consistent(one: dict) -> None:
    assert one["images_per_second"] == pytest.approx(1000 * one["batch"] / one["mean_ms"])
    assert 0 < one["p50_ms"] <= one["p95_ms"]
    assert one["mean_ms"] <= one["p95_ms"] * one["runs"]
    assert one["cores_busy"] > 0
    assert one["peak_memory_mib"] >= 0
    assert "first call" in one["memory"]


# Timing.


def test_calls_are_warm_and_counted():
    calls, seen = [], []
    timed = timing.timed(lambda: calls.append(1), torch.device("cpu"), 4, lambda *each: seen.append(each))
    assert (timed.warmup, len(timed.milliseconds), len(calls)) == (2, 4, 6)
    assert seen == [(done, 4) for done in range(5)]


def test_as_many_runs_as_ten_seconds_hold():
    timed = timing.timed(lambda: None, torch.device("cpu"))
    assert len(timed.milliseconds) == timing.MOST_RUNS


def test_a_slow_call_runs_five_times(monkeypatch):
    monkeypatch.setattr(timing, "AIM_SECONDS", 0.0)
    assert len(timing.timed(lambda: None, torch.device("cpu")).milliseconds) == timing.LEAST_RUNS


def test_figures_of_known_times():
    figures = timing.Timing(tuple(float(each) for each in range(1, 102)), warmup=2, cores=1.5).as_json(images=4)
    assert figures == {
        "runs": 101, "warmup": 2, "cores_busy": 1.5, "mean_ms": 51.0, "p50_ms": 51.0, "p95_ms": 96.0,
        "images_per_second": pytest.approx(4000 / 51),
    }  # fmt: skip


# Measurements.


def test_inference(subject):
    one = measure_inference(subject, TINY)
    arithmetic = {"gflops", "parameters", "parameters_auxiliary", "peak_gflops_per_second", "share_of_peak"}
    assert one.keys() == TIMES | MEMORY | FACTS | arithmetic | {"size", "recipe_size", "share_is_of"}
    assert_consistent(one)
    assert (one["size"], one["recipe_size"], one["batch"], one["runs"]) == ([64, 96], [64, 96], 1, 3)
    assert one["share_of_peak"] == pytest.approx(one["gflops"] * one["images_per_second"] / 100)
    model = tiny_model()
    assert one["parameters"] + one["parameters_auxiliary"] == sum(each.numel() for each in model.parameters())
    assert one["parameters_auxiliary"] == sum(each.numel() for each in model.auxiliary.parameters())


def test_inference_goes_through_the_predictor(subject, monkeypatch):
    seen = []

    class Watched(measure_speed.Predictor):
        def __call__(self, image):
            seen.append((image.shape, str(image.dtype), torch.is_autocast_enabled("cpu")))
            return super().__call__(image)

    monkeypatch.setattr(measure_speed, "Predictor", Watched)
    one = measure_inference(subject, replace(TINY, size=(40, 72), precision="bf16-mixed"))
    assert seen == [((40, 72, 3), "uint8", True)] * 5
    assert (one["size"], one["precision"], one["share_is_of"]) == ([40, 72], "bf16-mixed", "bfloat16")


def test_arithmetic_grows_with_the_image(subject):
    small, large = (measure_inference(subject, replace(TINY, size=size)) for size in ((64, 64), (128, 128)))
    assert 3.5 < large["gflops"] / small["gflops"] < 4.1  # the pooled branches stay the same


def test_training(subject, monkeypatch):
    seen, step = [], measure_speed.train_step

    def watched(model, optimizer, batches, used, number, *rest):
        before = next(model.parameters()).clone()
        losses = step(model, optimizer, batches, used, number, *rest)
        seen.append((number, bool((before != next(model.parameters())).any()), float(losses["loss"])))
        return losses

    monkeypatch.setattr(measure_speed, "train_step", watched)
    one = measure_training(subject, TINY)
    assert one.keys() == TIMES | MEMORY | FACTS | {"crop", "recipe_device_batch"}
    assert_consistent(one)
    assert (one["crop"], one["batch"]) == ([64, 96], 4)
    assert [number for number, _, _ in seen] == [0, 1, 2, 3, 4]
    assert all(changed for _, changed, _ in seen[:3])  # the recipe's lr ends at 0 with its fourth step
    assert all(loss > 0 for _, _, loss in seen)


def test_batch_and_crop_can_be_chosen():
    one = measure_training(Subject("tiny", tiny_recipe("data.crop=[32, 64]")), replace(TINY, batch=2, runs=1))
    assert (one["crop"], one["batch"], one["recipe_device_batch"]) == ([32, 64], 2, 4)
    assert_consistent(one)


def test_a_weights_file_is_measured(tmp_path, monkeypatch):
    path = tiny_weights(tmp_path / "w.safetensors")
    seen = []
    monkeypatch.setattr(measure_speed, "Predictor", lambda model, *rest: seen.append(model) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        measure_inference(Subject("w", tiny_recipe(), path), TINY)
    wanted = tiny_model().state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in seen[0].state_dict().items())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        MemoryError(),
    ],
)
def test_too_little_memory_is_a_result(subject, monkeypatch, error):
    def fails(*_):
        raise error

    monkeypatch.setattr(measure_speed, "train_step", fails)
    one = measure_training(subject, TINY)
    assert one["out_of_memory"]
    assert (one["crop"], one["batch"]) == ([64, 96], 4)
    assert "mean_ms" not in one


def test_another_error_is_none(subject, monkeypatch):
    monkeypatch.setattr(measure_speed, "train_step", lambda *_: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):
        measure_training(subject, TINY)


# What the recipes say.


@pytest.mark.parametrize(
    ("name", "size", "batch"),
    [
        ("fastfcn_r50_psp_cityscapes_80k_b8", (1024, 2048), 2),
        ("fastfcn_r50_psp_cityscapes_80k_b16", (1024, 2048), 4),
        ("dilated_r50_enc_ade20k_80k_b16", (512, 512), 4),
        ("demo", (128, 192), 8),
    ],
)
def test_sizes_of_recipes(name, size, batch):
    assert measure_speed.test_size(recipe.load(name)) == size
    assert measure_speed.device_batch(recipe.load(name)) == batch


# The command.


def record(*results: dict) -> dict:
    return benches._record(list(results), 1.0)


def result_of(name: str, part: str, measured: dict) -> dict:
    return {"name": name, "recipe": name, "changes": [], "weights": "random", part: measured}


def shown(whole: dict) -> str:
    text = StringIO()
    Console(width=120, file=text).print(bench_table(whole))
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


def test_a_busy_machine_is_told(subject):
    one = measure_inference(subject, TINY)
    one["machine"]["threads"], one["cores_busy"] = 4, 1.5
    copies = [json.loads(json.dumps(one | {"cores_busy": busy})) for busy in (1.5, 3.9)]
    text, quiet = (shown(record(result_of("tiny", "inference", each))) for each in copies)
    assert "Only 1.5 of 4" in " ".join(text.split())
    assert "Only" not in quiet


def test_too_little_memory_is_shown(subject):
    one = measure_speed.training_setting(subject, TINY) | {"out_of_memory": "20 GiB"}
    text = shown(record(result_of("a", "training", one), result_of("b", "training", one)))
    assert text.count("out of memory") == 8


def test_a_killed_process_is_too_little_memory(monkeypatch):
    def killed(*_, **__):
        raise MemoryError("the system killed the process")

    monkeypatch.setattr(benches, "in_fresh_process", killed)
    whole = benches.bench(["demo"], ["optim.batch=4"], Settings(size=(8, 9)))
    inference, training = whole["results"][0]["inference"], whole["results"][0]["training"]
    assert inference["out_of_memory"] == training["out_of_memory"] == "the system killed the process"
    assert (inference["size"], training["batch"]) == ([8, 9], 4)
    assert "out of memory" in shown(whole)


def test_command(tmp_path):
    """In fresh processes, as a user runs it."""
    weights, out = tiny_weights(tmp_path / "w.safetensors"), tmp_path / "out" / "bench.json"
    done = fastfcn("bench", weights, "data.crop=[32, 64]", "--size", "32x48", "--runs", 2, "--batch", 2,
                   "--accelerator", "cpu", "--threads", 1, "--json", out)  # fmt: skip
    assert done.code == 0, done
    whole = json.loads(out.read_text())
    assert whole.keys() == {"command", "date", "seconds", "machine", "versions", "notes", "results"}
    assert whole["command"].startswith("fastfcn bench ")
    assert whole["machine"]["threads"] == 1
    (one,) = whole["results"]
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
def test_a_disturbed_measurement_is_noticed(busy, p95, device, expected):
    quiet = {"mean_ms": 1.0, "p50_ms": 1.0, "p95_ms": 1.0, "cores_busy": 2.0}
    result = {"inference": quiet, "training": quiet | {"p95_ms": p95, "cores_busy": busy}}
    assert bench_all.disturbed({"machine": {"device": device, "threads": 2}, "results": [result]}) == expected
    killed = {"inference": {"out_of_memory": "x"}, "training": {"out_of_memory": "x"}}
    assert bench_all.disturbed({"results": [killed]}) == []


def test_a_disturbed_measurement_is_taken_again(monkeypatch):
    verdicts = iter([["training"], [], ["never asked for"]])
    monkeypatch.setattr(bench_all, "measure", lambda *_: {"results": [{"name": "a"}]})
    monkeypatch.setattr(bench_all, "disturbed", lambda _: next(verdicts))
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
        (["demo", "--size", "512"], ["'512' is not a size", "512x1024"]),
        (["demo", "--size", "0x64"], ["'0x64' is not a size"]),
        (["demo", "--precision", "fp8"], ["fp8", "bf16-mixed"]),
        (["demo", "--accelerator", "tpu"], ["tpu", "cuda"]),
        (["demo", "--no-train", "--no-infer"], ["nothing to measure"]),
        (["optim.batch=4"], ["nothing to measure"]),
    ],
)
def test_refused_before_anything_is_measured(arguments, words, monkeypatch):
    monkeypatch.setattr(benches, "in_fresh_process", lambda *_, **__: pytest.fail("measured"))
    assert_refused(fastfcn("bench", *arguments), *words)


def test_a_batch_of_one_is_refused():
    assert fastfcn("bench", "demo", "--batch", 1).code == 2


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="it is there")
def test_a_device_that_is_not_there(subject):
    with pytest.raises(UserError, match="mps"):
        measure_inference(subject, replace(TINY, accelerator="mps"))
    with pytest.raises(UserError, match="mps"):
        measure_training(subject, replace(TINY, accelerator="mps"))


def test_changes_that_do_not_fit_every_recipe():
    with pytest.raises(RecipeError, match=r"head\.codes"):
        benches.bench(["demo"], ["head.codes=3"])


def test_the_flops_are_of_the_recipe_s_network(subject):
    one = measure_inference(subject, TINY)
    counted = flops.count_flops(build.create(subject.recipe).eval().scores, torch.zeros(1, 3, 64, 96))
    assert one["gflops"] == pytest.approx(counted / 1e9)
