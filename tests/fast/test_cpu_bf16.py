"""bf16 on a CPU: without bf16 arithmetic float32 is used, with it the faster of both, and a line says which."""

from pathlib import Path

import numpy as np
import pytest
import torch

import fastfcn
from fastfcn.demo.streets import write_dataset
from fastfcn.evaluation.evaluate import load_setup
from fastfcn.fast import cpu_bf16
from fastfcn.utils.machine import Machine
from tests.helpers.tiny import SIZE, tiny_model


@pytest.fixture
def notes(monkeypatch) -> list[str]:
    """The lines that are printed."""
    lines: list[str] = []
    monkeypatch.setattr(cpu_bf16, "note", lines.append)
    monkeypatch.setattr(cpu_bf16, "_note_once", lines.append)
    return lines


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), np.uint8)


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    return write_dataset(tmp_path, train=1, val=1, size=SIZE)


def take(monkeypatch, bf16: float, float32: float) -> None:
    """Let the CPU have bf16 arithmetic, and predictions take so long."""
    monkeypatch.setattr(cpu_bf16, "has_bf16", lambda: True)
    monkeypatch.setattr(
        cpu_bf16, "_milliseconds", lambda networks, images: dict(zip(networks, (bf16, float32), strict=True))
    )


@pytest.mark.parametrize(
    ("instructions", "switch", "expected"),
    [
        ("flags : avx2 fma", "", False),
        ("flags : avx512f avx512_bf16", "", True),
        ("flags : amx_tile amx_bf16", "", True),
        ("Features : asimd bf16", "", True),
        ("flags : avx512_bf16", "off", False),
        ("", "", False),
    ],
)
def test_the_instructions_decide(instructions: str, switch: str, expected: bool, monkeypatch):
    monkeypatch.setattr(cpu_bf16, "instructions", lambda: instructions)
    monkeypatch.setenv(cpu_bf16.SWITCH, switch)
    assert cpu_bf16.has_bf16() == expected


@pytest.mark.parametrize("precision", ["bf16", "bf16-mixed"])
def test_without_bf16_arithmetic_predictions_are_those_of_float32(
    precision: str, weights_file: Path, image, notes, monkeypatch
):
    monkeypatch.setenv(cpu_bf16.SWITCH, "off")
    expected = fastfcn.load(weights_file, "cpu").logits(image)
    predictor = fastfcn.load(weights_file, "cpu", precision=precision)
    assert predictor.precision == "32-true"
    np.testing.assert_array_equal(predictor.logits(image), expected)
    assert notes == ["float32 is used instead of bf16: this CPU has no bf16 arithmetic (AVX512-BF16 or AMX)."]


@pytest.mark.parametrize(
    ("bf16", "float32", "used", "line"),
    [
        (80, 120, "bf16-mixed", "bf16 is used: 256x256 pixels take 80 ms in bf16, 120 ms in float32."),
        (130, 120, "32-true", "float32 is used: 256x256 pixels take 130 ms in bf16, 120 ms in float32."),
    ],
)
def test_the_faster_precision_is_used(bf16, float32, used, line, weights_file: Path, image, notes, monkeypatch):
    take(monkeypatch, bf16, float32)
    predictor = fastfcn.load(weights_file, "cpu", precision="bf16")
    assert (predictor.precision, notes) == (used, [line])
    with predictor.computing():
        assert torch.is_autocast_enabled("cpu") == (used == "bf16-mixed")
    assert predictor.labels(image).shape == (1, *SIZE)


def test_each_network_is_timed_in_its_precision(monkeypatch):
    calls = []

    class Watched:
        def __init__(self, name: str):
            self.name = name

        def labels(self, images: torch.Tensor) -> None:
            calls.append((self.name, tuple(images.shape), torch.is_autocast_enabled("cpu")))

    networks = {"bf16-mixed": Watched("half"), "32-true": Watched("full")}
    times = cpu_bf16._milliseconds(networks, torch.zeros(1, 3, 8, 8))  # type: ignore[arg-type]
    assert list(times) == ["bf16-mixed", "32-true"]
    assert calls == [("half", (1, 3, 8, 8), True), ("full", (1, 3, 8, 8), False)] * (1 + cpu_bf16.ROUNDS)


def test_a_network_is_timed_as_it_is():
    times = cpu_bf16._milliseconds({"32-true": tiny_model()}, torch.zeros(1, 3, *SIZE))
    assert times["32-true"] > 0


@pytest.mark.parametrize(
    ("has", "bf16", "used"), [(False, 1, "32-true"), (True, 1, "bf16-mixed"), (True, 3, "32-true")]
)
def test_evaluation_uses_the_faster_precision(has, bf16, used, weights_file: Path, streets: Path, notes, monkeypatch):
    take(monkeypatch, bf16, 2)
    monkeypatch.setattr(cpu_bf16, "has_bf16", lambda: has)
    monkeypatch.setattr("fastfcn.evaluation.evaluate.has_bf16", lambda: has)
    setup = load_setup(weights_file, streets, Machine("cpu", workers=0, precision="bf16"))
    assert len(notes) == 1
    with setup.fabric.autocast():
        assert torch.is_autocast_enabled("cpu") == (used == "bf16-mixed")


def test_training_uses_what_was_asked_for():
    assert Machine("cpu", precision="bf16").precision == "bf16-mixed"
