"""The steps of a request: reserve a place in the queue, decode, run the network, encode the response."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import prod
from time import monotonic
from typing import Any, Protocol, TypeVar

import numpy as np

from fastfcn.data.bands import BandReader
from fastfcn.data.description import DatasetDescription
from fastfcn.data.images import RGB, ImageReader
from fastfcn.prediction.prediction import Prediction
from fastfcn.prediction.predictor import Predictor
from fastfcn.serving import problems
from fastfcn.serving.batcher import Batcher, FullError, Job, LateError
from fastfcn.serving.decoding import Limits
from fastfcn.serving.decoding_pool import DecodingPool
from fastfcn.serving.formats import Payload, as_payload
from fastfcn.serving.inference_protocol import response
from fastfcn.serving.monitoring import Metrics
from fastfcn.serving.problems import Problem
from fastfcn.serving.settings import Settings
from fastfcn.serving.uploads import ClientGoneError, Receive, Upload, UploadBudget

Result = TypeVar("Result")
CODEC_THREADS = 2  # that encode responses, and processes that decode images
WARM_UP_SIZE = (128, 192)


class LabelPredictor(Protocol):
    """The part of a predictor that the service uses."""

    @property
    def description(self) -> DatasetDescription: ...

    def labels(self, images: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Outcome:
    """The response for one image, the time of each stage, and the image's (height, width)."""

    payload: Payload
    milliseconds: dict[str, float]
    size: tuple[int, int]


class Service:
    """Predictors behind a queue; `model_info` is shown by `GET /info`."""

    def __init__(
        self, predictors: Sequence[LabelPredictor], settings: Settings, model_info: dict[str, Any] | None = None
    ):
        self.settings = settings
        self.description = predictors[0].description
        first = predictors[0]
        self.images: ImageReader = first.images if isinstance(first, Predictor) else RGB
        self.model_info = model_info or {}
        self.metrics = Metrics()
        self.budget = UploadBudget(settings.upload_bytes)
        self.codecs = ThreadPoolExecutor(CODEC_THREADS, thread_name_prefix="codec")
        limits = Limits(settings.max_pixels, settings.max_side, settings.max_images)
        self.decoders = DecodingPool(CODEC_THREADS, limits, self.bands)
        self._decoding = ThreadPoolExecutor(CODEC_THREADS, thread_name_prefix="decode")
        self.ready = False
        self.batcher = Batcher(
            [predictor.labels for predictor in predictors],
            settings.max_batch or 1,
            settings.max_waiting,
            settings.queue_seconds,
            self.metrics.observe,
            first.input_pixels if isinstance(first, Predictor) else prod,
        )
        self.metrics.watch(lambda: self.batcher.waiting, self.batcher.expected_wait, lambda: self.budget.used)
        self._workers = len(predictors)

    @property
    def bands(self) -> BandReader | None:
        """Reads the bands of images; None for RGB."""
        return self.images if isinstance(self.images, BandReader) else None

    def warm_up(self) -> None:
        """Start the decoders and run every predictor twice, so that the first request is fast and the speed known."""
        self.decoders.start()
        image = np.zeros((*WARM_UP_SIZE, self.images.channels), self.images.dtype)
        for _ in range(2):
            self.batcher.reserve(self._workers)
            jobs = [self.batcher.put(image, monotonic() + 3600) for _ in range(self._workers)]
            for job in jobs:
                job.result.result()
        self.ready = True

    def close(self) -> None:
        self.ready = False
        self.batcher.close()
        self.codecs.shutdown()
        self._decoding.shutdown()
        self.decoders.close()

    def reserve(self, count: int) -> None:
        """Reserve places for `count` images. Raises Problem (503)."""
        try:
            self.batcher.reserve(count)
        except FullError as error:
            raise problems.busy(error.retry_after) from error

    def check_ready(self) -> None:
        """Raise Problem (503) while the service starts or shuts down."""
        if not self.ready:
            raise problems.busy(1)

    def check_room(self) -> None:
        """Raise Problem (503) if the queue is full."""
        self.reserve(1)
        self.batcher.release(1)

    async def predict(
        self, upload: Upload, format_name: str, opacity: float, details: dict, deadline: float
    ) -> Outcome:
        """Decode, run and encode one image, for which a place must be reserved. Raises Problem."""
        started = monotonic()
        try:
            image = await self._decoded(partial(self.decoders.decode, upload.data), deadline)
        except BaseException:
            self.batcher.release()
            raise
        upload.data = b""  # free the file: a long queue would keep both
        decoded = monotonic()
        job, labels = await self._run(image, deadline)
        milliseconds = _milliseconds(decoded - started, job)
        details = details | {"name": upload.name, "milliseconds": milliseconds, "batch_size": job.batch_size}
        prediction = Prediction(labels, self.images.preview(image), self.description)
        payload = await self._in_codec_thread(as_payload, prediction, format_name, opacity, details)
        return Outcome(payload, milliseconds, image.shape[:2])

    async def infer(self, body: bytes, json_bytes: int, deadline: float) -> tuple[bytes, dict[str, str], dict]:
        """Answer a request of the Open Inference Protocol, for which one place must be reserved. Raises Problem.

        Returns the body and the headers of the response, and fields for the log.
        """
        started = monotonic()
        try:
            images, answer = await self._decoded(partial(self.decoders.read_request, body, json_bytes), deadline)
            self.reserve(len(images) - 1)
        except BaseException:
            self.batcher.release()
            raise
        decoded = monotonic()
        results = await asyncio.gather(*(self._run(image, deadline) for image in images), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        runs = [result for result in results if not isinstance(result, BaseException)]
        labels, name = np.stack([labels for _, labels in runs]), self.settings.name
        classes = len(self.description.class_names)
        content, headers = await self._in_codec_thread(response, labels, classes, name, answer)
        size = f"{labels.shape[1]}x{labels.shape[2]}"
        fields = _milliseconds(decoded - started, runs[-1][0]) | {"images": len(images), "size": size}
        return content, headers, fields | {"format": "tensor"}

    async def _decoded(self, decode_within: Callable[[float], Result], deadline: float) -> Result:
        """The result of `decode_within(seconds)`. Raises Problem, 504 if its turn does not come before the deadline."""
        settings, loop = self.settings, asyncio.get_running_loop()

        def decode() -> Result:
            left = deadline - monotonic()
            if left <= 0:
                raise problems.late(settings.timeout)
            return decode_within(min(left, settings.decode_timeout))

        try:
            async with asyncio.timeout(deadline - monotonic()):
                return await loop.run_in_executor(self._decoding, decode)
        except TimeoutError as error:
            raise problems.late(settings.timeout) from error

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
            if isinstance(error, MemoryError) or "memory" in str(
                error
            ):  # torch raises different types on different devices
                raise problems.out_of_memory() from error
            raise
        finally:
            self.batcher.drop(job)

    async def _in_codec_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self.codecs, function, *arguments)


def _milliseconds(decoding: float, job: Job) -> dict[str, float]:
    """The time of each stage, by name."""
    times = {"decode": decoding, "wait": job.started - job.queued, "infer": job.finished - job.started}
    return {name: round(1000 * seconds, 1) for name, seconds in times.items()}


async def unless_disconnected(work: Awaitable[Result], receive: Receive) -> Result:
    """The result of `work`. If the client disconnects first, `work` is canceled and ClientGoneError raised."""
    task = asyncio.ensure_future(work)
    disconnected = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        for pending in (task, disconnected):
            pending.cancel()
        await asyncio.gather(task, disconnected, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def outcome_of(result: Outcome | BaseException) -> Outcome | Problem:
    """A result or problem as a value, so that a batch continues; any other exception is raised."""
    if isinstance(result, BaseException) and not isinstance(result, Problem):
        raise result
    return result
