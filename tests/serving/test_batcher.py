"""The queue: what runs together, who is refused, who is too late; with a predictor that waits to be let go."""

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


def test_only_what_waits_and_has_one_size_runs_together():
    held = BlockedPredictor()
    batcher = Batcher([held.labels], max_batch=3)
    jobs = [put(batcher)]
    assert held.begun.wait(60)  # alone: none was waiting beside it
    jobs += [put(batcher, height) for height in (5, 4, 5, 4, 5, 5)]
    held.free.set()
    assert [job.result.result(60).shape[0] for job in jobs] == [4, 5, 4, 5, 4, 5, 5]
    batcher.close()
    assert held.batches == [(1, 4, 6), (3, 5, 6), (2, 4, 6), (1, 5, 6)]
    assert [job.batch_size for job in jobs] == [1, 3, 2, 3, 2, 3, 1]


def test_every_image_gets_its_own_class_map():
    batcher = Batcher([lambda images: images[..., 0]] * 2, max_batch=4, max_waiting=100)
    batcher.reserve(50)
    jobs = [batcher.put(np.full((2, 2, 3), number, np.uint8), monotonic() + 300) for number in range(50)]
    assert [int(job.result.result(60)[0, 0]) for job in jobs] == list(range(50))
    batcher.close()


def test_an_image_is_counted_before_its_answer():
    counted: list[bool] = []
    batcher = Batcher([lambda images: images[..., 0]], observe=lambda jobs: counted.append(jobs[0].result.done()))
    put(batcher).result.result(60)
    assert counted == [False]
    batcher.close()


def test_the_queue_is_bounded_by_places():
    held = BlockedPredictor()
    batcher = Batcher([held.labels], max_waiting=3)
    first = put(batcher)
    assert held.begun.wait(60)
    batcher.reserve(2)
    with pytest.raises(FullError) as refused:
        batcher.reserve(2)
    assert refused.value.retry_after >= 1
    batcher.reserve(1)
    batcher.release(3)
    assert batcher.waiting == 0
    held.free.set()
    assert first.result.result(60).all()
    batcher.close()


def test_the_queue_is_bounded_by_the_expected_wait():
    """By the speed of the last batches: with 5 s an image and 12 s at most, three images wait and no fourth."""
    held = BlockedPredictor()
    batcher = Batcher([held.labels], max_waiting=100, queue_seconds=12)
    running = put(batcher)
    assert held.begun.wait(60)
    batcher._seconds, batcher._work = 5.0, float(running.work)
    waiting = [put(batcher), put(batcher)]
    assert 10 < batcher.expected_wait() <= 15
    with pytest.raises(FullError) as refused:
        put(batcher, seconds=300), put(batcher)
    assert 5 <= refused.value.retry_after <= 10
    held.free.set()
    for job in (running, *waiting):
        job.result.result(60)
    batcher.close()


def test_a_large_image_counts_for_what_it_takes():
    batcher = Batcher([BlockedPredictor().labels])
    batcher._seconds, batcher._work = 1.0, 1e6
    batcher._queue.append(Job(np.zeros((1000, 2000, 3), np.uint8), 0))
    assert batcher.expected_wait() == pytest.approx(2.05)


def test_who_is_too_late_is_not_run():
    held = BlockedPredictor()
    batcher = Batcher([held.labels])
    first = put(batcher)
    assert held.begun.wait(60)
    late = put(batcher, height=9, seconds=-1)
    held.free.set()
    with pytest.raises(LateError):
        late.result.result(60)
    first.result.result(60)
    batcher.close()
    assert held.batches == [(1, 4, 6)]


def test_who_is_not_wanted_any_more_is_not_run():
    held = BlockedPredictor()
    batcher = Batcher([held.labels])
    first = put(batcher)
    assert held.begun.wait(60)
    gone = put(batcher, height=9)
    batcher.drop(gone)
    assert batcher.waiting == 0
    held.free.set()
    first.result.result(60)
    batcher.close()
    assert held.batches == [(1, 4, 6)]


def test_an_error_of_the_network_is_the_senders_and_the_thread_goes_on():
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


def test_what_waits_is_finished_at_the_end():
    held = BlockedPredictor()
    batcher = Batcher([held.labels])
    jobs = [put(batcher) for _ in range(5)]
    held.free.set()
    batcher.close()
    assert all(job.result.done() for job in jobs)
