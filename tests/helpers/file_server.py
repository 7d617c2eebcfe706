"""A local file server, with or without Range requests, that can close a connection in the middle."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import NamedTuple, TypeVar

Server = TypeVar("Server", bound=ThreadingHTTPServer)


class Request(NamedTuple):
    """A request: its path, its Range header, and the first byte of the response."""

    path: str
    range: str | None
    start: int


class FileServer(ThreadingHTTPServer):
    """Serves `files` by path; records `requests`; ends each response after `break_after` bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.ranges = True  # whether it supports Range
        self.break_after: int | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and self.server.ranges else 0
        self.server.requests.append(Request(self.path, asked, start))
        content = self.server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        if start >= len(content):
            return self.send_error(416)
        body = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.break_after])
        return None

    def log_message(self, *_: object) -> None:
        """Quiet."""


def file_server() -> AbstractContextManager[FileServer]:
    """A running server; it ends with the block."""
    return running(FileServer())


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """`server`, responding from a separate thread until the block ends."""
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
