"""Measurements of inference and training: consistent numbers, of the right network."""

from dataclasses import replace

import pytest
import torch

from fastfcn import build, recipes
from fastfcn.bench import flops, measure, timing
from fastfcn.bench.measure import Settings, Subject, measure_inference, measure_training
from fastfcn.errors import UserError
from fastfcn.prediction import inference, predictor
from tests.helpers.tiny import tiny_model, tiny_recipe, tiny_weights

TINY = Settings(runs=3, accelerator="cpu")
TIMES = {"runs", "warmup", "cores_busy", "mean_ms", "p50_ms", "p95_ms", "images_per_second"}
MEMORY = {"peak_memory_mib", "memory"}
FACTS = {"precision", "batch", "machine", "versions"}


@pytest.fixture(autouse=True)
def no_warmup(monkeypatch):
    """Skip the warm-up and the matrix products."""
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


def test_inference(subject):
    one = measure_inference(subject, TINY)
    arithmetic = {"gflops", "parameters", "parameters_auxiliary", "peak_gflops_per_second", "share_of_peak"}
    assert one.keys() == TIMES | MEMORY | FACTS | arithmetic | {"size", "recipe_size", "share_is_of"}
    assert_consistent(one)
    assert (one["size"], one["recipe_size"], one["batch"], one["runs"]) == ([64, 96], [64, 96], 1, 3)
    assert one["share_of_peak"] == pytest.approx(one["gflops"] * one["images_per_second"] / 100)
    model = tiny_model()
    assert one["parameters"] + one["parameters_auxiliary"] == sum(parameter.numel() for parameter in model.parameters())
    assert one["parameters_auxiliary"] == sum(parameter.numel() for parameter in model.auxiliary.parameters())


def test_inference_goes_through_the_predictor_at_the_size_of_the_image(monkeypatch):
    seen, normalized = [], inference._normalized

    def watched(model, settings, images):
        seen.extend((tuple(batch.shape), str(batch.dtype), torch.is_autocast_enabled("cpu")) for batch in images)
        return normalized(model, settings, images)

    monkeypatch.setattr(inference, "_normalized", watched)
    monkeypatch.setattr(predictor, "fastest_precision", lambda precision, *_: precision)
    resized = Subject("resized", tiny_recipe("eval.resize=[80,160]"))
    one = measure_inference(resized, replace(TINY, size=(40, 72), precision="bf16-mixed"))
    assert seen == [((1, 3, 40, 72), "torch.uint8", True)] * 5
    assert (one["size"], one["precision"], one["share_is_of"]) == ([40, 72], "bf16-mixed", "bfloat16")


def test_flops_grow_with_the_image(subject):
    small, large = (measure_inference(subject, replace(TINY, size=size)) for size in ((64, 64), (128, 128)))
    assert 3.5 < large["gflops"] / small["gflops"] < 4.1  # the pooled branches stay the same


def test_training(subject, monkeypatch):
    seen, step = [], measure.train_step

    def watched(model, optimizer, batches, used, number, *rest):
        before = next(model.parameters()).clone()
        losses = step(model, optimizer, batches, used, number, *rest)
        seen.append((number, bool((before != next(model.parameters())).any()), float(losses["loss"])))
        return losses

    monkeypatch.setattr(measure, "train_step", watched)
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
    monkeypatch.setattr(measure, "TorchPredictor", lambda model, *rest: seen.append(model) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        measure_inference(Subject("w", tiny_recipe(), path), TINY)
    expected = tiny_model().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in seen[0].state_dict().items())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        MemoryError(),
    ],
)
def test_running_out_of_memory_is_a_result(subject, monkeypatch, error):
    def fails(*_):
        raise error

    monkeypatch.setattr(measure, "train_step", fails)
    one = measure_training(subject, TINY)
    assert one["out_of_memory"]
    assert (one["crop"], one["batch"]) == ([64, 96], 4)
    assert "mean_ms" not in one


def test_other_errors_are_raised(subject, monkeypatch):
    monkeypatch.setattr(measure, "train_step", lambda *_: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):
        measure_training(subject, TINY)


def test_flops_are_those_of_the_recipe(subject):
    one = measure_inference(subject, TINY)
    counted = flops.count_flops(build.create(subject.recipe).eval().logits, torch.zeros(1, 3, 64, 96))
    assert one["gflops"] == pytest.approx(counted / 1e9)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="the device exists")
def test_a_missing_device(subject):
    with pytest.raises(UserError, match="mps"):
        measure_inference(subject, replace(TINY, accelerator="mps"))
    with pytest.raises(UserError, match="mps"):
        measure_training(subject, replace(TINY, accelerator="mps"))


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
    assert measure.test_size(recipes.load(name)) == size
    assert measure.device_batch(recipes.load(name)) == batch
