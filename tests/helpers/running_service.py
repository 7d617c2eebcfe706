"""A service in the test process on a local port, and requests to it."""

import io
import json
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any
from urllib.error import HTTPError

import numpy as np
from PIL import Image

from fastfcn.serving.serve import address_of, listen, make_server
from fastfcn.serving.service import LabelPredictor, Service
from fastfcn.serving.settings import Settings


@dataclass
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class RunningService:
    """A service and its address."""

    service: Service
    url: str

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def ask(self, path: str, body: bytes | None = None, kind: str = "image/png", **headers: str) -> Answer:
        """GET, or POST with a body. Header names are written with _ instead of -."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(
            self.url + path, body, more | ({"Content-Type": kind} if body is not None else {})
        )
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except HTTPError as error:
            return Answer(error.code, error.headers, error.read())


@contextmanager
def running(predictors: Sequence[LabelPredictor], settings: Settings, warm: bool = True) -> Iterator[RunningService]:
    """The service of `predictors`, stopped at the end of the block."""
    service = Service(predictors, settings, {"recipe": "tiny"})
    if warm:
        service.warm_up()
    listener = listen("127.0.0.1", 0)
    server = make_server(service)
    thread = Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield RunningService(service, address_of(listener, "127.0.0.1"))
    finally:
        server.should_exit = True
        thread.join()


class BlockedPredictor:
    """A predictor that waits until `free` is set, then predicts class 1 everywhere; records its batches."""

    def __init__(self, description: Any = None):
        self.description = description
        self.started, self.free = Event(), Event()
        self.batches: list[tuple[int, ...]] = []

    def labels(self, images: np.ndarray) -> np.ndarray:
        self.batches.append(images.shape[:3])
        self.started.set()
        assert self.free.wait(300)
        return np.ones(images.shape[:3], np.uint8)


def png(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def form(*files: tuple[str, bytes], field: str = "images") -> tuple[bytes, str]:
    """A form with files: its body and content type."""
    parts = [
        f'--edge\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode() + data + b"\r\n"
        for name, data in files
    ]
    return b"".join(parts) + b"--edge--\r\n", "multipart/form-data; boundary=edge"
