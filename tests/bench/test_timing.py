"""Timing of calls: warm-up, number of runs, statistics of known times."""

import pytest
import torch

from fastfcn.bench import timing


@pytest.fixture(autouse=True)
def no_warmup(monkeypatch):
    """Skip the warm-up."""
    monkeypatch.setattr(timing, "WARM_SECONDS", 0)


def test_warmup_and_runs():
    calls, seen = [], []
    timed = timing.time_calls(lambda: calls.append(1), torch.device("cpu"), 4, lambda *step: seen.append(step))
    assert (timed.warmup, len(timed.milliseconds), len(calls)) == (2, 4, 6)
    assert seen == [(done, 4) for done in range(5)]


def test_fast_calls_run_up_to_the_maximum():
    timed = timing.time_calls(lambda: None, torch.device("cpu"))
    assert len(timed.milliseconds) == timing.MOST_RUNS


def test_slow_calls_run_five_times(monkeypatch):
    monkeypatch.setattr(timing, "AIM_SECONDS", 0.0)
    assert len(timing.time_calls(lambda: None, torch.device("cpu")).milliseconds) == timing.LEAST_RUNS


def test_statistics_of_known_times():
    statistics = timing.Timing(tuple(float(number) for number in range(1, 102)), warmup=2, cores=1.5).as_json(images=4)
    assert statistics == {
        "runs": 101, "warmup": 2, "cores_busy": 1.5, "mean_ms": 51.0, "p50_ms": 51.0, "p95_ms": 96.0,
        "images_per_second": pytest.approx(4000 / 51),
    }  # fmt: skip
