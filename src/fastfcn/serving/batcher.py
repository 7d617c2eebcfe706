"""A bounded queue of images in front of the network. Waiting images of the same size run as one batch.

One thread per predictor does the work. This module knows nothing about HTTP.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import prod
from threading import Condition, Thread
from time import monotonic

import numpy as np

from fastfcn.utils.sizes import Size

OVERHEAD = 50_000  # the fixed cost of an image, in pixels that take as long
DECAY = 0.9  # weight of past batches in the speed estimate, applied at each batch


class FullError(Exception):
    """The queue is full; `retry_after` (whole seconds, at least 1) is when to try again."""

    def __init__(self, retry_after: int):
        super().__init__(f"queue full for {retry_after} s")
        self.retry_after = retry_after


class LateError(Exception):
    """The deadline passed before the network ran."""


@dataclass(eq=False)
class Job:
    """One image (H, W, 3) with its deadline and its timestamps (all of `monotonic`).

    `pixels`: how many the network processes for it; None: those of the image.
    """

    image: np.ndarray
    deadline: float
    pixels: int | None = None
    queued: float = field(default_factory=monotonic)
    started: float = 0.0
    finished: float = 0.0
    batch_size: int = 0
    result: Future = field(default_factory=Future)

    @property
    def work(self) -> int:
        """Pixels, plus the fixed cost of an image."""
        pixels = self.image.shape[0] * self.image.shape[1] if self.pixels is None else self.pixels
        return pixels + OVERHEAD


class Batcher:
    """Runs `predictors` (images (B, H, W, 3) -> labels (B, H, W)), each in a separate thread.

    At most `max_batch` images of the same size run together. Requests are never delayed to fill a batch. At most
    `max_waiting` images wait, and an image is refused if its expected wait exceeds `queue_seconds`. `observe(jobs)` is
    called after each batch, before its results are delivered, in the thread that ran it. `pixels`: how many the network
    processes for an image of (height, width), by which its time is estimated.
    """

    def __init__(
        self,
        predictors: Sequence[Callable[[np.ndarray], np.ndarray]],
        max_batch: int = 1,
        max_waiting: int = 20,
        queue_seconds: float = 10.0,
        observe: Callable[[list[Job]], None] = lambda jobs: None,
        pixels: Callable[[Size], int] = prod,
    ):
        self.max_batch, self.max_waiting, self.queue_seconds = max_batch, max_waiting, queue_seconds
        self.observe, self.pixels = observe, pixels
        self._queue: deque[Job] = deque()
        self._reserved = 0
        self._running: dict[int, tuple[float, int]] = {}  # by worker: start time and amount of work
        self._seconds = self._work = 0.0  # decaying sums over past batches
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
        """Images in the queue, including reserved places for images still being decoded."""
        return len(self._queue) + self._reserved

    def expected_wait(self) -> float:
        """Seconds until a new image would start, estimated from the speed of recent batches."""
        with self._changed:
            return self._expected()

    def reserve(self, count: int = 1) -> None:
        """Reserve `count` places for images that are still to be decoded. Raises FullError."""
        with self._changed:
            if self.waiting + count > self.max_waiting or (self.waiting and self._expected() > self.queue_seconds):
                raise FullError(self._retry_after())
            self._reserved += count

    def release(self, count: int = 1) -> None:
        """Give back reserved places that are not needed."""
        with self._changed:
            self._reserved -= count

    def put(self, image: np.ndarray, deadline: float) -> Job:
        """Put an image into its reserved place. Raises FullError if it would wait too long."""
        job = Job(image, deadline, self.pixels((image.shape[0], image.shape[1])))
        with self._changed:
            self._reserved -= 1
            if self._queue and self._expected() > self.queue_seconds:
                raise FullError(self._retry_after())
            self._queue.append(job)
            self._changed.notify()
        return job

    def drop(self, job: Job) -> None:
        """Remove an image whose result is no longer needed. One that is already running is not interrupted."""
        with self._changed:
            job.result.cancel()
            if job in self._queue:
                self._queue.remove(job)

    def close(self) -> None:
        """Finish the queued images and end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _expected(self) -> float:
        rate = self._seconds / self._work if self._work else 0.0
        now = monotonic()
        running = sum(max(0.0, work * rate - (now - start)) for start, work in self._running.values())
        return (running + rate * sum(job.work for job in self._queue)) / len(self._threads)

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
        """The oldest image and others of its size; canceled and late ones are removed on the way."""
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
        except Exception as error:  # delivered to the requests; the thread continues
            for job in jobs:
                job.result.set_exception(error)
            return
        now = monotonic()
        with self._changed:
            self._seconds = DECAY * self._seconds + now - jobs[0].started
            self._work = DECAY * self._work + sum(job.work for job in jobs)
        for job in jobs:
            job.finished, job.batch_size = now, len(jobs)
        self.observe(jobs)  # before the results: metrics read after a response must include it
        for job, label in zip(jobs, maps, strict=True):
            job.result.set_result(label)
