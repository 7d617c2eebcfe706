"""A seeded sample of benchmarks/serve_hostile.py, and the service as a process under load with SIGTERM."""

import asyncio
import sys
from collections import Counter
from pathlib import Path

import pytest

from fastfcn.prediction.predictor import Predictor
from fastfcn.serving.settings import Settings
from tests.helpers.running_service import RunningService, png, running
from tests.helpers.tiny import picture

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import serve_hostile
import serve_load
from serving.hostile_requests import KINDS, attacks
from serving.service_process import ServiceProcess


def test_hostile_requests_do_no_harm(predictor: Predictor):
    settings = Settings(max_pixels=100_000, max_bytes=300_000, head_timeout=1, body_timeout=1)
    counts = serve_hostile.AnswerCounts()
    with running([predictor], settings) as service:
        asyncio.run(serve_hostile.send_all(service.port, list(attacks(3, 90, slow=0.1)), counts, timeout=300))
        asyncio.run(serve_hostile.is_healthy(service.port))
        assert service.service.budget.used == service.service.batcher.waiting == 0
        assert service.ask("/predict", png(picture())).status == 200
    assert set(counts.answers) == {*KINDS.keys()}
    assert counts.total == 90
    assert counts.count("500") == counts.count("hung") == 0
    assert counts.count("413")
    assert counts.count("415")
    assert counts.count("422")
    assert counts.count("408")


def test_schemathesis_finds_no_500(service: RunningService):
    pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    counts = serve_hostile.AnswerCounts()
    assert serve_hostile.send_schema(service.port, 12, 0, counts)
    assert counts.total >= 8
    assert counts.count("500") == 0


def test_sigterm_under_load_finishes_what_was_accepted(weights_file: Path, tmp_path: Path):
    """In a separate process."""
    image = png(picture())
    with ServiceProcess(weights_file, tmp_path / "log", ["--max-waiting", "4"]) as service:
        end = asyncio.run(serve_load.stop_under_load(service, image, 12, 0.5))
        logged = Counter(str(line["status"]) for line in service.lines("request"))
        assert service.lines("stopped")
    assert end["exit_code"] == 0
    assert end["unanswered"] == 0
    assert logged == end["statuses"]  # every accepted request got a response
    assert set(logged) <= {"200", "503"}
    assert end["answered_after_sigterm"] > 0
    assert end["refused_without_retry_after"] == 0
