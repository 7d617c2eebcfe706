"""Decoding in other processes: the same pixels and problems, a deadline, and processes that end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fastfcn.prediction.predictor import Predictor
from fastfcn.serving import decoding_pool
from fastfcn.serving.decoding import Limits, decode
from fastfcn.serving.decoding_pool import DecodingPool
from fastfcn.serving.problems import Problem
from fastfcn.serving.settings import Settings
from tests.helpers.running_service import png, running
from tests.helpers.tiny import picture

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from serving.hostile_images import many_profiles, many_scans, thin_png

LIMITS = Limits(2**23, 16_384)


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodingPool]:
    pool = DecodingPool(1, LIMITS)
    yield pool
    pool.close()


def process(pool: DecodingPool) -> int:
    """The process id in a pool of one process."""
    worker = pool._idle.get(timeout=60)
    pool._idle.put(worker)
    assert worker
    return worker.process.pid


def refused(pool: DecodingPool, data: bytes, seconds: float = 60) -> Problem:
    with pytest.raises(Problem) as problem:
        pool.decode(data, seconds)
    return problem.value


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "JPEG", "WEBP"])
def test_the_same_pixels(pool: DecodingPool, kind: str):
    for size in ((64, 96), (1, 1), (700, 900)):
        data = png(picture(*size), kind)
        assert np.array_equal(pool.decode(data, 60), decode(data, LIMITS))


@pytest.mark.parametrize(
    "data",
    [b"", b"GIF89a", b"%PDF", png(picture())[:500], thin_png(2_000_000), many_scans(64, 64, 1000), b"\xff\xd8\xff"],
)
def test_the_same_problems(pool: DecodingPool, data: bytes):
    pool.decode(png(picture()), 60)
    before = process(pool)
    problem = refused(pool, data)
    with pytest.raises(Problem) as expected:
        decode(data, LIMITS)
    assert problem.body("1") == expected.value.body("1")
    assert process(pool) == before  # and it still works
    assert pool.decode(png(picture()), 60).shape == (64, 96, 3)


def test_a_slow_image_is_ended(pool: DecodingPool):
    """Decoding it would take minutes: Pillow bounds the size of each profile of a PNG, but not their number."""
    pool.decode(png(picture()), 60)
    before, start = process(pool), time.monotonic()
    problem = refused(pool, many_profiles(19_000), 0.5)
    assert (problem.status, problem.code) == (413, "slow-image")
    assert time.monotonic() - start < 10
    assert not Path(f"/proc/{before}").exists()
    assert pool.decode(png(picture()), 60).shape == (64, 96, 3)


def test_a_process_that_dies_is_replaced(pool: DecodingPool):
    """As when the system kills it for memory: the image is not to blame."""
    pool.decode(png(picture()), 60)
    before = process(pool)
    os.kill(before, signal.SIGKILL)
    assert np.array_equal(pool.decode(png(picture()), 60), picture())
    assert process(pool) != before


def test_a_process_killed_while_it_decodes(pool: DecodingPool):
    """The deadline holds for both attempts together."""
    pool.decode(png(picture()), 60)
    before, start = process(pool), time.monotonic()
    with ThreadPoolExecutor(1) as other:
        slow = other.submit(refused, pool, many_profiles(19_000), 2.0)
        time.sleep(0.5)
        os.kill(before, signal.SIGKILL)
        assert slow.result().code == "slow-image"
    assert time.monotonic() - start < 10
    assert pool.decode(png(picture()), 60).shape == (64, 96, 3)


def test_an_image_that_crashes_every_decoder(pool: DecodingPool, monkeypatch: pytest.MonkeyPatch):
    data, attempts = png(picture()), []

    def crash(worker: decoding_pool._Worker, *_: object) -> None:
        attempts.append(worker.process.pid)
        worker.kill()
        raise decoding_pool._EndedError

    with monkeypatch.context() as patch:
        patch.setattr(decoding_pool._Worker, "decode", crash)
        assert refused(pool, data).code == "broken-image"
    assert len(set(attempts)) == 2
    assert pool.decode(data, 60).shape == (64, 96, 3)


def test_no_process_can_be_started(pool: DecodingPool, monkeypatch: pytest.MonkeyPatch):
    """Too many processes or open files: the service is busy, the image not to blame."""

    def fail(*_: object, **__: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    pool.decode(png(picture()), 60)
    os.kill(process(pool), signal.SIGKILL)
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", fail)
        assert refused(pool, png(picture())).status == 503
    assert pool.decode(png(picture()), 60).shape == (64, 96, 3)


def test_a_process_ends_silently_with_the_service(capfd: pytest.CaptureFixture):
    """Its pipes are closed while it decodes or answers."""
    worker = decoding_pool._Worker(LIMITS)
    data = png(picture(2000, 2000))
    assert worker.process.stdin
    assert worker.process.stdout
    decoding_pool._write(worker.process.stdin, decoding_pool._head([len(data), None]))
    worker.process.stdout.close()
    decoding_pool._write(worker.process.stdin, data)
    assert worker.process.wait(60) == 0
    worker.kill()
    assert capfd.readouterr().err == ""


def test_waiting_for_a_process_is_limited(pool: DecodingPool):
    with ThreadPoolExecutor(1) as other:
        slow = other.submit(refused, pool, many_profiles(19_000), 3.0)
        time.sleep(0.5)
        assert refused(pool, png(picture()), 0.1).code == "slow-image"
        assert slow.result().code == "slow-image"


def test_closing_ends_all_processes():
    pool = DecodingPool(2, LIMITS)
    pool.start()
    workers = [pool._idle.get(), pool._idle.get()]
    for worker in workers:
        pool._idle.put(worker)
    pool.close()
    assert [worker.process.returncode for worker in workers if worker] == [-signal.SIGKILL] * 2


@pytest.mark.parametrize("data", [many_scans(2880, 2880, 20_000), thin_png(2_000_000), many_profiles(18_000)])
def test_hostile_images_leave_the_service_usable(predictor: Predictor, data: bytes):
    settings = Settings(decode_timeout=2)
    with running([predictor], settings) as service, ThreadPoolExecutor(3) as senders:
        bad = [senders.submit(service.ask, "/predict", data) for _ in range(3)]
        good = service.ask("/predict", png(picture()))
        assert good.status == 200
        assert {answer.result().status for answer in bad} <= {413, 422}
        assert service.service.batcher.waiting == 0


def test_thin_images_are_refused_with_the_reason(predictor: Predictor):
    with running([predictor], Settings(), warm=False) as service:
        for width, code in ((8_388_608, "too-long-side"), (16_384, None), (16_385, "too-long-side")):
            answer = service.ask("/predict", thin_png(width))
            assert answer.status == (413 if code else 200)
            if code:
                assert answer.json["code"] == code
                assert f"{width} x 1 pixels" in answer.json["detail"]
    with running([predictor], Settings(max_side=10**7), warm=False) as service:
        assert service.ask("/predict", thin_png(2_000_000)).json["code"] == "too-much-memory"
