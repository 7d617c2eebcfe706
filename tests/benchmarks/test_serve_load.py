"""benchmarks/serve_load.py: the service and the predictor take turns; verdict. tests/serving tests SIGTERM."""

import asyncio
from pathlib import Path

import pytest

import serve_load
from fastfcn.prediction.predictor import Predictor
from fastfcn.serving.settings import Settings
from tests.helpers.running_service import png, running
from tests.helpers.tiny import picture


def test_the_service_and_the_predictor_take_turns(predictor: Predictor, weights_file: Path):
    """Every turn answers requests, and none is pending while the predictor is measured."""
    image = png(picture())
    with running([predictor], Settings()) as service:
        load = serve_load.Load(service.port, image)

        class Offline(serve_load.Offline):
            def run(self, seconds: float) -> float:
                assert service.service.batcher.waiting == 0
                answered.append(load.statuses[200])
                return super().run(seconds)

        answered: list[int] = []
        offline = Offline(weights_file, image, 1)
        alone, served = asyncio.run(serve_load.take_turns(offline, load, 3, 0.05))
    assert len(alone) == len(served) == serve_load.TURNS
    assert min(alone + served) > 0
    assert answered == sorted(set(answered))
    figures = load.figures(3)
    assert figures["statuses"] == {"200": len(load.latencies)}
    assert figures["unanswered"] == 0
    assert len(load.latencies) > answered[-1]


LOAD = {"seconds_p50_p95_p99": [1.0, 1.5, 1.9], "statuses": {"200": 5}, "refused_without_retry_after": 0}
LOAD |= {"unanswered": 0, "hostile_statuses": {"413": 1}}
GOOD = {"load": LOAD, "overload": LOAD, "sigterm": LOAD | {"exit_code": 0}, "lost": 0, "memory": {"flat": True}}
GOOD |= {"throughput_of_offline": 0.9, "p99_ratio": 1.0}


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, []),
        ({"throughput_of_offline": 0.89}, ["throughput at least 0.9 of offline"]),
        ({"p99_ratio": 2.1}, ["p99 of the accepted at most 2.0 times"]),
        (
            {"overload": LOAD | {"seconds_p50_p95_p99": [0.5, 1.0, 1.1]}},
            ["p99 at most 2.0 times the median, under overload"],
        ),
        ({"overload": LOAD | {"hostile_statuses": {"500": 1}}}, ["hostile images are answered and do no harm"]),
        ({"load": LOAD | {"refused_without_retry_after": 1}}, ["the rest gets 503 with Retry-After"]),
        ({"lost": 1}, ["none lost", "SIGTERM finishes what was accepted"]),
        ({"memory": {"flat": False}}, ["memory flat"]),
    ],
)
def test_missed_targets_are_named(change: dict, missed: list[str]):
    assert [name for name, met in serve_load.verdict(GOOD | change).items() if not met] == missed
