"""A local service with the requests of S3 that fastfcn makes: objects are written, read in ranges, and deleted."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.helpers.file_server import running


class BucketServer(ThreadingHTTPServer):
    """Holds `objects` by path, such as /bucket/prefix/name; `failures`: how many of the next requests fail."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []  # "GET /bucket/prefix/name"
        self.failures = 0

    def reads(self, ending: str) -> int:
        """Number of GET requests for objects whose name has this ending."""
        return sum(line.startswith("GET") and line.endswith(ending) for line in self.requests)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: BucketServer

    def do_GET(self) -> None:
        content = self.server.objects.get(self.path)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if self._fails() or content is None:
            return self._answer(404 if content is None else 503)
        if not asked:
            return self._answer(200, content)
        start, end = int(asked[1]), min(int(asked[2]) + 1, len(content))
        return self._answer(206, content[start:end], {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self._fails():
            return self._answer(503)
        self.server.objects[self.path] = content
        return self._answer(200)

    def do_POST(self) -> None:
        """Delete several objects: the only POST request with a body that the tests make."""
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        bucket = self.path.split("?")[0].rstrip("/")
        keys = re.findall("<Key>(.*?)</Key>", text)
        for key in keys:
            self.server.objects.pop(f"{bucket}/{key}", None)
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        return self._answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def _fails(self) -> bool:
        self.server.requests.append(f"{self.command} {self.path}")
        self.server.failures -= 1
        return self.server.failures >= 0

    def _answer(self, code: int, content: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        fixed = {"Last-Modified": "Tue, 01 Dec 2026 00:00:00 GMT", "ETag": f'"{hashlib.md5(content).hexdigest()}"'}
        for name, value in {"Content-Length": str(len(content)), **fixed, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def bucket_server(patch: pytest.MonkeyPatch) -> Iterator[BucketServer]:
    """A running server, to which s3:// URLs lead in this process and those that it starts."""
    with running(BucketServer()) as server:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
        patch.setenv("AWS_SKIP_SIGNATURE", "true")
        patch.setenv("AWS_REGION", "us-east-1")
        yield server
