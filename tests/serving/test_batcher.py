"""The queue: batches, refusals and deadlines, with a predictor that blocks until released."""

from time import monotonic

import numpy as np
import pytest

from fastfcn.serving.batcher import Batcher, FullError, Job, LateError
from tests.helpers.running_service import BlockedPredictor


def image(height: int = 4, width: int = 6) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def put(batcher: Batcher, height: int = 4, seconds: float = 300) -> Job:
    batcher.reserve()
    return batcher.put(image(height), monotonic() + seconds)


def test_waiting_images_of_one_size_run_together():
    blocked = BlockedPredictor()
    batcher = Batcher([blocked.labels], max_batch=3)
    jobs = [put(batcher)]
    assert blocked.started.wait(60)  # alone: no other image was waiting
    jobs += [put(batcher, height) for height in (5, 4, 5, 4, 5, 5)]
    blocked.free.set()
    assert [job.result.result(60).shape[0] for job in jobs] == [4, 5, 4, 5, 4, 5, 5]
    batcher.close()
    assert blocked.batches == [(1, 4, 6), (3, 5, 6), (2, 4, 6), (1, 5, 6)]
    assert [job.batch_size for job in jobs] == [1, 3, 2, 3, 2, 3, 1]


def test_every_image_gets_its_own_result():
    batcher = Batcher([lambda images: images[..., 0]] * 2, max_batch=4, max_waiting=100)
    batcher.reserve(50)
    jobs = [batcher.put(np.full((2, 2, 3), number, np.uint8), monotonic() + 300) for number in range(50)]
    assert [int(job.result.result(60)[0, 0]) for job in jobs] == list(range(50))
    batcher.close()


def test_an_image_is_counted_before_its_result_is_set():
    counted: list[bool] = []
    batcher = Batcher([lambda images: images[..., 0]], observe=lambda jobs: counted.append(jobs[0].result.done()))
    put(batcher).result.result(60)
    assert counted == [False]
    batcher.close()


def test_the_queue_is_bounded_by_places():
    blocked = BlockedPredictor()
    batcher = Batcher([blocked.labels], max_waiting=3)
    first = put(batcher)
    assert blocked.started.wait(60)
    batcher.reserve(2)
    with pytest.raises(FullError) as refused:
        batcher.reserve(2)
    assert refused.value.retry_after >= 1
    batcher.reserve(1)
    batcher.release(3)
    assert batcher.waiting == 0
    blocked.free.set()
    assert first.result.result(60).all()
    batcher.close()


def test_the_queue_is_bounded_by_the_expected_wait():
    """From recent speed: with 5 s per image and a limit of 12 s, three images wait and a fourth is refused."""
    blocked = BlockedPredictor()
    batcher = Batcher([blocked.labels], max_waiting=100, queue_seconds=12)
    running = put(batcher)
    assert blocked.started.wait(60)
    batcher._seconds, batcher._work = 5.0, float(running.work)
    waiting = [put(batcher), put(batcher)]
    assert 10 < batcher.expected_wait() <= 15
    with pytest.raises(FullError) as refused:
        put(batcher, seconds=300), put(batcher)
    assert 5 <= refused.value.retry_after <= 10
    blocked.free.set()
    for job in (running, *waiting):
        job.result.result(60)
    batcher.close()


def test_a_large_image_counts_by_its_pixels():
    batcher = Batcher([BlockedPredictor().labels])
    batcher._seconds, batcher._work = 1.0, 1e6
    batcher._queue.append(Job(np.zeros((1000, 2000, 3), np.uint8), 0))
    assert batcher.expected_wait() == pytest.approx(2.05)


def test_late_images_are_not_run():
    blocked = BlockedPredictor()
    batcher = Batcher([blocked.labels])
    first = put(batcher)
    assert blocked.started.wait(60)
    late = put(batcher, height=9, seconds=-1)
    blocked.free.set()
    with pytest.raises(LateError):
        late.result.result(60)
    first.result.result(60)
    batcher.close()
    assert blocked.batches == [(1, 4, 6)]


def test_dropped_images_are_not_run():
    blocked = BlockedPredictor()
    batcher = Batcher([blocked.labels])
    first = put(batcher)
    assert blocked.started.wait(60)
    gone = put(batcher, height=9)
    batcher.drop(gone)
    assert batcher.waiting == 0
    blocked.free.set()
    first.result.result(60)
    batcher.close()
    assert blocked.batches == [(1, 4, 6)]


def test_an_error_is_delivered_and_the_thread_continues():
    def labels(images: np.ndarray) -> np.ndarray:
        if images.shape[1] == 7:
            raise RuntimeError("out of memory")
        return images[..., 0]

    batcher = Batcher([labels])
    broken, sound = put(batcher, height=7), put(batcher)
    with pytest.raises(RuntimeError, match="memory"):
        broken.result.result(60)
    assert sound.result.result(60).shape == (4, 6)
    batcher.close()


def test_queued_images_are_finished_on_close():
    blocked = BlockedPredictor()
    batcher = Batcher([blocked.labels])
    jobs = [put(batcher) for _ in range(5)]
    blocked.free.set()
    batcher.close()
    assert all(job.result.done() for job in jobs)
