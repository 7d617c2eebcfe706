"""Decoding in separate processes, which are killed at the deadline: no decoder of images can be interrupted.

The processes speak over their standard input and output. A request is a head (the length of the file as JSON, padded
to HEAD bytes), then the file, or the body of an inference request; a response is a head (shape, or problem), then the
pixels.
"""

import json
import math
import os
import queue
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from threading import Timer
from time import monotonic
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from fastfcn.errors import UserError
from fastfcn.serving import problems
from fastfcn.serving.decoding import Limits, decode
from fastfcn.serving.inference_protocol import Answer, read_request
from fastfcn.serving.problems import Problem

if TYPE_CHECKING:
    from fastfcn.data.bands import BandReader

HEAD = 4096  # bytes
MAX_TEXT = 200  # characters of a message: in JSON, up to 6 bytes each
PIPE_BYTES = 2**20
MEMORY, MEMORY_PER_PIXEL = 2**30, 64  # bytes of address space for decoding, beyond those used at the start
MEMORY_PER_BAND = 16  # more bytes of each pixel, for each band of a file
CLOSE_SECONDS = 5.0
ATTEMPTS = 2  # to decode an image whose process ends


class DecodingPool:
    """At most `size` processes that decode images within `limits`, started when they are first needed.

    `bands`: decodes images of bands, instead of RGB. `decode` may be called from any thread, and blocks it.
    """

    def __init__(self, size: int, limits: Limits, bands: "BandReader | None" = None):
        self._limits, self._bands = limits, bands
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(size):
            self._idle.put(None)
        self._size = size

    def start(self) -> None:
        """Start all processes, so that the first images need not wait for them."""
        workers = [self._idle.get() or _Worker(self._limits, self._bands) for _ in range(self._size)]
        for worker in workers:
            self._idle.put(worker)

    def decode(self, data: bytes, seconds: float) -> np.ndarray:
        """The image in `data` as `decoding.decode` returns it. Raises Problem: as `decode`, and 413 after `seconds`.

        If the process ends (the system may kill it for memory), another one decodes the image again.
        """
        return self._decode(data, None, seconds)[0]

    def read_request(self, body: bytes, json_bytes: int, seconds: float) -> tuple[np.ndarray, Answer]:
        """As `inference_protocol.read_request`, otherwise as `decode`."""
        return self._decode(body, json_bytes, seconds)

    def _decode(self, data: bytes, json_bytes: int | None, seconds: float) -> tuple[np.ndarray, Answer]:
        end = monotonic() + seconds
        for _ in range(ATTEMPTS):
            try:
                return self._decode_once(data, json_bytes, end)
            except (_EndedError, queue.Empty) as error:
                if monotonic() >= end:
                    raise problems.slow_decoding(seconds) from error
        raise problems.broken_image("the decoder failed")

    def _decode_once(self, data: bytes, json_bytes: int | None, end: float) -> tuple[np.ndarray, Answer]:
        """As `_decode`, until the time `end`. Raises _EndedError, and queue.Empty if no process is free before."""
        worker = self._idle.get(timeout=max(end - monotonic(), 0.0))
        try:
            worker = worker or _started(self._limits, self._bands)
            return worker.decode(data, json_bytes, end - monotonic())
        except _EndedError:
            worker = None
            raise
        except Problem:
            raise  # the process is fine
        except BaseException:
            if worker is not None:
                worker.kill()
            worker = None
            raise
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """End all processes; those that decode an image are killed."""
        with ThreadPoolExecutor(self._size) as threads:
            for _ in range(self._size):
                try:
                    worker = self._idle.get(timeout=CLOSE_SECONDS)
                except queue.Empty:
                    continue
                if worker is not None:
                    threads.submit(worker.kill)


class _EndedError(Exception):
    """The process ended or was killed."""


class _Worker:
    """A running process."""

    def __init__(self, limits: Limits, bands: "BandReader | None" = None):
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = os.environ | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        reader = json.dumps(bands.as_json()) if bands else ""
        settings = f"{limits.pixels}, {limits.side}, {limits.images}, {reader!r}"
        command = [sys.executable, "-c", f"from {__name__} import work; work({settings})"]
        # A new session: Ctrl-C in the terminal is for the service, which finishes the accepted requests.
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True, bufsize=0
        )
        for stream in (self.process.stdin, self.process.stdout):
            _enlarge(stream)

    def decode(self, data: bytes, json_bytes: int | None, seconds: float) -> tuple[np.ndarray, Answer]:
        """The image in `data`, or with `json_bytes` the images of a request; after `seconds` the process is killed.

        Raises Problem, and _EndedError.
        """
        to, answers = self.process.stdin, self.process.stdout
        assert to
        assert answers
        timer = Timer(max(0.0, seconds), self.process.kill)
        timer.daemon = True
        timer.start()
        try:
            _write(to, _head([len(data), json_bytes]))
            _write(to, data)
            head = json.loads(_read(answers, HEAD))
            if "shape" not in head:
                raise Problem(head["status"], head["code"], head["detail"], head["hint"])
            dtype = np.dtype(head["dtype"])
            content = _read(answers, math.prod(head["shape"]) * dtype.itemsize)
            pixels = np.frombuffer(content, dtype).reshape(head["shape"])
            answer = Answer(**head["answer"])
        except (OSError, ValueError, EOFError) as error:
            self.kill()
            raise _EndedError from error
        finally:
            timer.cancel()
        return pixels, answer

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with suppress(OSError):  # unsent data
                if stream is not None:
                    stream.close()


def _started(limits: Limits, bands: "BandReader | None") -> _Worker:
    """A new process. Raises Problem (503) if the system has no room for one."""
    try:
        return _Worker(limits, bands)
    except OSError as error:
        raise problems.busy(1) from error


def _enlarge(stream: IO[bytes] | None) -> None:
    """Give a pipe room for an image of usual size, so that the two processes need not take turns."""
    try:
        from fcntl import F_SETPIPE_SZ, fcntl
    except ImportError:  # not Linux
        return
    with suppress(OSError):  # if the user's pipes take too much memory already
        fcntl(stream.fileno(), F_SETPIPE_SZ, PIPE_BYTES)  # type: ignore[union-attr]


def _head(values: object) -> bytes:
    return json.dumps(values).encode().ljust(HEAD)


def _read(stream: IO[bytes], count: int) -> bytearray:
    """Exactly `count` bytes of a pipe. Raises EOFError if it ends before."""
    content, done = bytearray(count), 0
    with memoryview(content) as memory:
        while done < count:
            length = stream.readinto(memory[done:])  # type: ignore[attr-defined]
            if not length:
                raise EOFError("the process ended")
            done += length
    return content


def _write(stream: IO[bytes], data: bytes | memoryview) -> None:
    """All of `data`: a pipe may accept only part of it at a time."""
    with memoryview(data).cast("B") as memory:
        done = 0
        while done < len(memory):
            done += stream.write(memory[done:])


def work(max_pixels: int, max_side: int, max_images: int, bands: str = "") -> None:
    """The loop of a process: decode what arrives on standard input until the service closes it, or ends.

    `bands`: `BandReader.as_json` as text, empty for RGB.
    """
    reader, per_pixel = None, MEMORY_PER_PIXEL
    if bands:
        from fastfcn.data.bands import BandReader, rasterio

        reader = BandReader.from_json(json.loads(bands))
        per_pixel += MEMORY_PER_BAND * len(reader.bands.names)
        with suppress(UserError):
            rasterio()  # before the limit of memory
    _limit_memory(MEMORY + per_pixel * max_pixels)
    limits = Limits(max_pixels, max_side, max_images)
    requests, answers = open(0, "rb", buffering=0), open(1, "wb", buffering=0)  # noqa: SIM115 (unbuffered)
    with suppress(EOFError, BrokenPipeError):
        while True:
            length, json_bytes = json.loads(_read(requests, HEAD))
            _answer(bytes(_read(requests, length)), json_bytes, limits, reader, answers)


def _answer(
    data: bytes, json_bytes: int | None, limits: Limits, bands: "BandReader | None", answers: IO[bytes]
) -> None:  # fmt: skip
    """Decode one file, or the images of a request, and write the response."""
    answer = Answer()
    try:
        if json_bytes is None:
            pixels = np.ascontiguousarray(decode(data, limits, bands))
        else:
            pixels, answer = read_request(data, json_bytes, limits, bands)
    except MemoryError:
        _write(answers, _head(_fields(problems.out_of_memory())))
    except Problem as problem:
        _write(answers, _head(_fields(problem)))
    else:
        _write(answers, _head({"shape": pixels.shape, "dtype": pixels.dtype.name, "answer": asdict(answer)}))
        _write(answers, pixels.data)


def _fields(problem: Problem) -> dict[str, Any]:
    fields: dict[str, Any] = {"status": problem.status, "code": problem.code}
    return fields | {"detail": problem.detail[:MAX_TEXT], "hint": problem.hint[:MAX_TEXT]}


def _limit_memory(more: int) -> None:
    """Bound the address space to `more` bytes than now; a decoder that wants more fails as with a damaged file."""
    try:
        import resource
    except ImportError:  # Windows
        return
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 (a file of the system)
            used = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # not Linux
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = used + more
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard < 0 else min(limit, hard), hard))
