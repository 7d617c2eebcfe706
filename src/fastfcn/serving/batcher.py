"""A bounded queue of images before the network; images of one size that wait anyway run together.

Threads do the work, one a predictor. Nothing here knows HTTP.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread
from time import monotonic

import numpy as np

OVERHEAD = 50_000  # pixels that take about as long as what every image costs, however small
MEMORY = 0.9  # how much of what was measured is kept with each new measurement


class FullError(Exception):
    """There is no place; `retry_after` (whole seconds, at least 1) is when to ask again."""

    def __init__(self, retry_after: int):
        super().__init__(f"no place for {retry_after} s")
        self.retry_after = retry_after


class LateError(Exception):
    """The deadline came before the network did."""


@dataclass(eq=False)
class Job:
    """One image (H, W, 3), its deadline (of `monotonic`), and when things happened to it."""

    image: np.ndarray
    deadline: float
    asked: float = field(default_factory=monotonic)
    started: float = 0.0
    finished: float = 0.0
    together: int = 0
    result: Future = field(default_factory=Future)

    @property
    def work(self) -> int:
        """Pixels, and what an image costs beside them."""
        return self.image.shape[0] * self.image.shape[1] + OVERHEAD


class Batcher:
    """Runs `labels` functions (images (B, H, W, 3) -> class maps (B, H, W)), each in a thread of its own.

    At most `max_batch` images run together, only of one size and only those that wait already: none is held back for
    company. At most `max_waiting` wait, and none that is expected to wait longer than `queue_seconds`.
    `observe(jobs)` is called after each batch, before its answers, in the thread that ran it.
    """

    def __init__(
        self,
        predictors: Sequence[Callable[[np.ndarray], np.ndarray]],
        max_batch: int = 1,
        max_waiting: int = 20,
        queue_seconds: float = 10.0,
        observe: Callable[[list[Job]], None] = lambda jobs: None,
    ):
        self.max_batch, self.max_waiting, self.queue_seconds = max_batch, max_waiting, queue_seconds
        self.observe = observe
        self._queue: deque[Job] = deque()
        self._reserved = 0
        self._running: dict[int, tuple[float, int]] = {}  # by worker: since when, and how much work
        self._seconds = self._work = 0.0  # of past batches, the older the less
        self._closed = False
        self._changed = Condition()
        self._threads = [
            Thread(target=self._serve, args=(number, labels), name=f"network-{number}", daemon=True)
            for number, labels in enumerate(predictors)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Images that have a place, those still being decoded included."""
        return len(self._queue) + self._reserved

    def expected_wait(self) -> float:
        """Seconds until a new image would be begun, by the speed of the last ones."""
        with self._changed:
            return self._expected()

    def reserve(self, count: int = 1) -> None:
        """Take `count` places for images that are about to come; raises FullError."""
        with self._changed:
            if self.waiting + count > self.max_waiting or (self.waiting and self._expected() > self.queue_seconds):
                raise FullError(self._retry_after())
            self._reserved += count

    def release(self, count: int = 1) -> None:
        """Give places back that no image came for."""
        with self._changed:
            self._reserved -= count

    def put(self, image: np.ndarray, deadline: float) -> Job:
        """Let an image take its reserved place; raises FullError where it would wait too long there."""
        job = Job(image, deadline)
        with self._changed:
            self._reserved -= 1
            if self._queue and self._expected() > self.queue_seconds:
                raise FullError(self._retry_after())
            self._queue.append(job)
            self._changed.notify()
        return job

    def drop(self, job: Job) -> None:
        """Forget an image that nobody waits for any more; one that is running is finished for nothing."""
        with self._changed:
            job.result.cancel()
            if job in self._queue:
                self._queue.remove(job)

    def close(self) -> None:
        """Finish what waits, and end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _expected(self) -> float:
        rate = self._seconds / self._work if self._work else 0.0
        now = monotonic()
        begun = sum(max(0.0, work * rate - (now - since)) for since, work in self._running.values())
        return (begun + rate * sum(job.work for job in self._queue)) / len(self._threads)

    def _retry_after(self) -> int:
        return max(1, math.ceil(self._expected() / 2))

    def _serve(self, number: int, labels: Callable[[np.ndarray], np.ndarray]) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closed:
                    self._changed.wait()
                if not self._queue:
                    return
                jobs = self._take()
                self._running[number] = (monotonic(), sum(job.work for job in jobs))
            if jobs:
                self._run(jobs, labels)
            with self._changed:
                del self._running[number]

    def _take(self) -> list[Job]:
        """The oldest image and others of its size; those that are too late or unwanted are answered on the way."""
        jobs: list[Job] = []
        now = monotonic()
        for job in list(self._queue):
            if jobs and job.image.shape != jobs[0].image.shape:
                continue
            if len(jobs) == self.max_batch:
                break
            self._queue.remove(job)
            if not job.result.set_running_or_notify_cancel():
                continue
            if job.deadline <= now:
                job.result.set_exception(LateError())
                continue
            job.started = now
            jobs.append(job)
        return jobs

    def _run(self, jobs: list[Job], labels: Callable[[np.ndarray], np.ndarray]) -> None:
        try:
            maps = labels(np.stack([job.image for job in jobs]))
        except Exception as error:  # the senders get it; the thread goes on
            for job in jobs:
                job.result.set_exception(error)
            return
        now = monotonic()
        with self._changed:
            self._seconds = MEMORY * self._seconds + now - jobs[0].started
            self._work = MEMORY * self._work + sum(job.work for job in jobs)
        for job in jobs:
            job.finished, job.together = now, len(jobs)
        self.observe(jobs)  # before anyone has an answer: who asks for the figures after it finds it counted
        for job, label in zip(jobs, maps, strict=True):
            job.result.set_result(label)
