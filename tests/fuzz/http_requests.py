"""Fuzzed HTTP requests: raw bytes to a service in this process, whose answers must not be server errors."""

import contextlib
import logging
import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote
from zlib import crc32

from benchmarks.serving.hostile_images import many_profiles, many_scans, thin_png

import fastfcn
from fastfcn.serving.settings import Settings
from tests.fuzz.mutate import WORDS, damaged
from tests.helpers.running_service import RunningService, form, png, running
from tests.helpers.tiny import picture

SETTINGS = Settings(
    max_pixels=200_000, max_side=4000, max_bytes=300_000, max_images=4, head_timeout=0.3, body_timeout=0.3,
    decode_timeout=2.0,
)  # fmt: skip
LISTEN_SECONDS = 10.0  # until a response must have begun, or the connection must be closed
REST_SECONDS = 0.2  # for further responses on the connection
PATHS = ("/predict", "/predict?format=polygons", "/predict?format=overlay&opacity=0.3", "/predict?format=labels")
PAGES = ("/", "/info", "/health", "/ready", "/metrics", "/openapi.json", "/page/main.js", "/examples/1.jpg", "/nowhere")
NAMES = (
    "Host", "Content-Type", "Content-Length", "Transfer-Encoding", "Accept", "Accept-Encoding", "Origin",
    "Authorization", "Connection", "Upgrade", "Expect", "X-Request-ID", "If-None-Match", "Range", "Cookie", "TE",
    "Access-Control-Request-Method", "Content-Encoding", "",
)  # fmt: skip
VALUES = (
    "127.0.0.1", "[::1]", "::1:1:", "evil.example", "chunked", "gzip, chunked", "identity", "close", "keep-alive",
    "Upgrade", "websocket", "100-continue", "multipart/form-data", "multipart/form-data; boundary=", "0", "-1", "+5",
    "image/png; charset=utf-16", "application/json", "http://[", "null", "Bearer", "bytes=0-1", "*", "a/b;q=x, */*;q=9",
)  # fmt: skip


class ServerErrorError(AssertionError):
    """The service answered with a status of 500 or more, not at all, or logged an error."""


class LoggedErrors(logging.Handler):
    """Errors in the log, of any part of the server."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.errors.append(record.exc_info[1])
        elif record.levelno >= logging.ERROR:
            self.errors.append(ServerErrorError(record.getMessage()))


def request_seeds() -> tuple[bytes, ...]:
    """Valid requests, and hostile images."""
    image, photo = png(picture(32, 48)), png(picture(32, 48), "JPEG")
    hostile = (many_scans(64, 64, 20_000), thin_png(150_000), thin_png(3000), many_profiles(20))
    one, batch = form(("a.png", image), field="image"), form(("a.png", image), ("../b.jpg", photo))
    return (
        *(request("POST", path, image, "image/png") for path in PATHS),
        *(request("POST", "/predict", body, "application/octet-stream") for body in (photo, *hostile)),
        request("POST", "/predict", *one),
        *(request("POST", f"/predict/batch?format={name}", *batch) for name in ("runs", "labels")),
        *(request("GET", path) for path in PAGES),
        request("OPTIONS", "/predict"),
    )


def request(method: str, path: str, body: bytes = b"", kind: str = "") -> bytes:
    """A request for one response."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
    lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def damaged_request(data: bytes, rng: random.Random) -> bytes:
    """A request after one or two random changes."""
    for _ in range(rng.choice((1, 1, 2))):
        data = rng.choice(CHANGES)(data, rng)
    return data


def _with_body(data: bytes, body: bytes) -> bytes:
    """The request with another body, whose length is announced."""
    head = data.partition(b"\r\n\r\n")[0].split(b"\r\n")
    head = [line for line in head if not line.lower().startswith(b"content-length")]
    return b"\r\n".join([*head, b"Content-Length: %d" % len(body)]) + b"\r\n\r\n" + body


def _body(data: bytes, rng: random.Random) -> bytes:
    return _with_body(data, damaged(data.partition(b"\r\n\r\n")[2], rng))


def _raw(data: bytes, rng: random.Random) -> bytes:
    return damaged(data, rng)


def _header(data: bytes, rng: random.Random) -> bytes:
    """Replace, add, repeat or remove a header."""
    head, end, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    value = rng.choice((*VALUES, *WORDS, "y" * rng.choice((1000, 70_000))))
    line = f"{rng.choice(NAMES)}: {value}".encode("utf-8", "surrogateescape")
    place = rng.randrange(1, len(lines) + 1)
    lines[place : place + rng.choice((0, 1))] = rng.choice(([], [line], [line], [line] * 2, [line] * 200))
    return b"\r\n".join(lines) + end + body


def _target(data: bytes, rng: random.Random) -> bytes:
    """Another method, path or version."""
    head, end, rest = data.partition(b"\r\n")
    method, path, version = (head.split(b" ") + [b""] * 3)[:3]
    word = rng.choice(WORDS)
    paths = (
        *(f"{base}/{part}" for base in ("/page", "/examples") for part in ("..%2f..%2fapp.py", "%00", quote(word))),
        *(f"/predict?{key}={quote(word)}" for key in ("format", "opacity", "opacity", "x")),
        *("*", "//", "/predict/", "/predict/batch/..", "http://evil.example/predict", "/predict#x", "/%ff%fe"),
        *("/predict?" + "a=b&" * 3000, "/" + "a" * 20_000, "/predict?format=runs&format=labels", "/predict;x"),
    )
    match rng.randrange(4):
        case 0:
            method = rng.choice((b"HEAD", b"PUT", b"TRACE", b"CONNECT", b"PRI", b"", b"get", b"POST", b"GET", b"\xff"))
        case 1:
            version = rng.choice((b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9.9", b"", b"HTTP/1.1 x", b"ICY"))
        case _:
            path = rng.choice(paths).encode("utf-8", "surrogateescape")
    return b" ".join((method, path, version)) + end + rest


def _chunked(data: bytes, rng: random.Random) -> bytes:
    """The body in chunks, some of them malformed."""
    head, end, body = data.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    size = rng.choice((1, 7, 64, 1000, 10**6))
    parts = [b"%x\r\n%s\r\n" % (len(body[at : at + size]), body[at : at + size]) for at in range(0, len(body), size)]
    last = rng.choice(
        (b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"", b"0", b"zz\r\n", b"-1\r\n\r\n", b"f" * 40)
    )
    extra = rng.choice((b"", b"", b"1;" + b"x" * 9000 + b"\r\na\r\n", b"ffffffffffffffff\r\n", b"0x1\r\na\r\n"))
    return b"\r\n".join([*lines, b"Transfer-Encoding: chunked"]) + end + b"".join(parts) + extra + last


def _several(data: bytes, rng: random.Random) -> bytes:
    """Several requests at once on one connection."""
    return data.replace(b"Connection: close\r\n", b"") * rng.choice((2, 3, 20)) + rng.choice((data, b"", b"\r\n" * 9))


CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_body, _body, _body, _raw, _raw, _header, _header, _target, _chunked, _several),
)


@contextlib.contextmanager
def fuzzed_service(weights: Path) -> Iterator[Callable[[bytes], None]]:
    """A service; yields a function that sends raw bytes to it and raises ServerErrorError, or what the log tells."""
    log, names = LoggedErrors(), ("", "fastfcn.serving.serve", "uvicorn.error", "asyncio")
    with running([fastfcn.load(weights, "cpu")], SETTINGS) as service:
        for name in names:
            logging.getLogger(name).addHandler(log)
        try:
            yield lambda content: send_and_check(service, content, log)
        finally:
            for name in names:
                logging.getLogger(name).removeHandler(log)
            image = png(picture(32, 48))
            if (status := service.ask("/predict", image).status) != 200:
                raise ServerErrorError(f"status {status} for a valid image after all requests")


def send_and_check(service: RunningService, content: bytes, log: LoggedErrors) -> None:
    """Send one input. Nothing of it may be left in the service afterwards."""
    statuses = exchange(service.port, content)
    if log.errors:
        error = log.errors[0]
        log.errors.clear()
        raise error
    if any(status >= 500 for status in statuses):
        raise ServerErrorError(f"statuses {statuses}")
    end = time.monotonic() + LISTEN_SECONDS
    while service.service.budget.used or service.service.batcher.waiting:
        if time.monotonic() > end:
            raise ServerErrorError("the request still takes memory or a place in the queue")
        time.sleep(0.005)


def exchange(port: int, content: bytes) -> list[int]:
    """The statuses of all responses. One in eight clients closes its side at once, one in eight leaves early."""
    behavior = crc32(content) % 8
    with socket.create_connection(("127.0.0.1", port), timeout=LISTEN_SECONDS) as connection:
        answer = b""
        try:
            connection.sendall(content)
            if behavior == 0:
                connection.shutdown(socket.SHUT_WR)
            elif behavior == 1:
                return []
            while part := connection.recv(2**16):
                answer += part
                connection.settimeout(REST_SECONDS)
        except TimeoutError:
            if not answer:
                raise ServerErrorError(f"no answer within {LISTEN_SECONDS:g} s") from None
        except OSError:  # closed by the service
            pass
    return statuses_of(answer)


def statuses_of(answer: bytes) -> list[int]:
    """The statuses in the bytes that a server sent."""
    statuses = []
    while answer.startswith(b"HTTP/1."):
        head, _, answer = answer.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        statuses.append(int(lines[0].split()[1]))
        without = 0 if statuses[-1] < 200 else len(answer)  # "100 Continue" has no body
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), without)
        answer = answer[length:] if not answer.startswith(b"HTTP/1.") else answer  # HEAD has no body
    return statuses
