"""The way of an image through the service: a place, pixels, the network, an answer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol, TypeVar

import numpy as np

from fastfcn.data.description import DataSetDescription
from fastfcn.prediction.prediction import Prediction
from fastfcn.serving import problems
from fastfcn.serving.batcher import Batcher, FullError, Job, LateError
from fastfcn.serving.body_limits import Budget, Receive, SenderGoneError
from fastfcn.serving.decoding import decode
from fastfcn.serving.formats import Answer, as_answer
from fastfcn.serving.metrics import Metrics
from fastfcn.serving.problems import Problem
from fastfcn.serving.settings import Settings
from fastfcn.serving.uploads import Upload

Result = TypeVar("Result")
CODERS = 2  # threads that decode and encode
WARM_UP = (128, 192)  # pixels of the image that the network is tried on


class LabelsImages(Protocol):
    """What the service needs of a predictor."""

    @property
    def description(self) -> DataSetDescription: ...

    def labels(self, images: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Outcome:
    """One image's answer, and its milliseconds by what they went into."""

    answer: Answer
    milliseconds: dict[str, float]
    size: tuple[int, int]


class Service:
    """Predictors behind a queue; `about` is what `GET /info` says of the network."""

    def __init__(self, predictors: Sequence[LabelsImages], settings: Settings, about: dict[str, Any] | None = None):
        self.settings = settings
        self.description = predictors[0].description
        self.about = about or {}
        self.metrics = Metrics()
        self.budget = Budget(settings.upload_bytes)
        self.coders = ThreadPoolExecutor(CODERS, thread_name_prefix="coder")
        self.ready = False
        self.batcher = Batcher(
            [each.labels for each in predictors],
            settings.max_batch or 1,
            settings.max_waiting,
            settings.queue_seconds,
            self.metrics.observe,
        )
        self.metrics.watch(lambda: self.batcher.waiting, self.batcher.expected_wait, lambda: self.budget.used)
        self._workers = len(predictors)

    def warm_up(self) -> None:
        """Run every predictor once or twice, so that the first request finds it ready and its speed is known."""
        image = np.zeros((*WARM_UP, 3), np.uint8)
        for _ in range(2):
            self.batcher.reserve(self._workers)
            jobs = [self.batcher.put(image, monotonic() + 3600) for _ in range(self._workers)]
            for job in jobs:
                job.result.result()
        self.ready = True

    def close(self) -> None:
        self.ready = False
        self.batcher.close()
        self.coders.shutdown()

    def reserve(self, count: int) -> None:
        """Places for `count` images; raises Problem (503)."""
        try:
            self.batcher.reserve(count)
        except FullError as error:
            raise problems.busy(error.retry_after) from error

    def check_room(self) -> None:
        """Raise Problem (503) where there is no place, before a body is read."""
        self.reserve(1)
        self.batcher.release(1)

    async def predict(self, upload: Upload, kind: str, opacity: float, facts: dict, deadline: float) -> Outcome:
        """Decode, run and encode one image, which must have a place. Raises Problem."""
        began = monotonic()
        try:
            image = await self._coded(decode, upload.data, self.settings.max_pixels)
        except BaseException:
            self.batcher.release()
            raise
        upload.data = b""  # the pixels are enough; a long queue would hold both
        decoded = monotonic()
        job, labels = await self._run(image, deadline)
        times = {
            "decode": decoded - began,
            "wait": job.started - job.asked,
            "infer": job.finished - job.started,
        }
        milliseconds = {name: round(1000 * seconds, 1) for name, seconds in times.items()}
        known = facts | {"name": upload.name, "milliseconds": milliseconds, "together": job.together}
        prediction = Prediction(labels, image, self.description)
        answer = await self._coded(as_answer, prediction, kind, opacity, known)
        return Outcome(answer, milliseconds, image.shape[:2])

    async def _run(self, image: np.ndarray, deadline: float) -> tuple[Job, np.ndarray]:
        try:
            job = self.batcher.put(image, deadline)
        except FullError as error:
            raise problems.busy(error.retry_after) from error
        try:
            async with asyncio.timeout(deadline - monotonic()):
                return job, await asyncio.wrap_future(job.result)
        except (TimeoutError, LateError) as error:
            raise problems.late(self.settings.timeout) from error
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, MemoryError) or "memory" in str(error):  # torch has no one kind for all devices
                raise problems.out_of_memory() from error
            raise
        finally:
            self.batcher.drop(job)

    async def _coded(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self.coders, function, *arguments)


async def unless_gone(work: Awaitable[Result], receive: Receive) -> Result:
    """What `work` gives; it is cancelled, and SenderGoneError raised, where the sender leaves before."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise SenderGoneError
        return task.result()
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def outcome_of(result: Outcome | BaseException) -> Outcome | Problem:
    """A batch goes on past an image that has a problem; anything else is an error of the service."""
    if isinstance(result, BaseException) and not isinstance(result, Problem):
        raise result
    return result
