"""The Python client and `predict --server`: the same results as without a service, retries and errors."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from fastfcn import client as client_module
from fastfcn.client import Client
from fastfcn.errors import DataError, UserError
from fastfcn.prediction.predictor import Predictor
from tests.helpers.command import fastfcn
from tests.helpers.running_service import RunningService
from tests.helpers.tiny import picture, save_picture
from tests.serving.conftest import service  # noqa: F401 (a fixture)


def test_it_answers_as_a_predictor(service: RunningService, predictor: Predictor, tmp_path: Path):  # noqa: F811
    client = Client(service.url)
    path = save_picture(tmp_path / "a.png")
    assert client.classes == predictor.classes
    for image in (path, str(path), picture(), Image.fromarray(picture())):
        prediction = client(image)
        assert np.array_equal(prediction.labels, predictor(picture()).labels)
        assert np.array_equal(prediction.overlay(), predictor(picture()).overlay())
    with pytest.raises(DataError, match="must be a path"):
        client(picture()[..., 0])
    with pytest.raises(DataError, match="cannot be read"):
        client(tmp_path / "none.png")


def test_predict_through_a_service_writes_what_predict_writes(
    service: RunningService,  # noqa: F811
    weights_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    for number in range(6):
        save_picture(tmp_path / "in" / f"{number}.png", picture(seed=number))
    (tmp_path / "in" / "broken.png").write_bytes((tmp_path / "in/0.png").read_bytes()[:900])
    done = fastfcn("predict", "--server", service.url, tmp_path / "in", "--out", tmp_path / "there")
    assert done.code == 1
    assert "broken.png: The image cannot be decoded" in done.err
    assert "6 of 7 images" in done.out
    assert fastfcn("predict", weights_file, tmp_path / "in", "--out", tmp_path / "here").code == 1
    names = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "there").iterdir())
    assert len(names) == 13
    for name in names:
        here, there = (np.array(Image.open(tmp_path / place / name)) for place in ("here", "there"))
        assert (here == there).mean() > 0.99


@contextmanager
def answering(*answers: tuple[int, dict, bytes]) -> Iterator[tuple[str, list[str]]]:
    """A server that sends these responses in turn and repeats the last; yields its URL and the requested paths."""
    left, asked = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Records the client's pauses instead of sleeping."""
    made: list[float] = []
    monkeypatch.setattr(client_module, "sleep", made.append)
    monkeypatch.setattr(client_module, "uniform", lambda low, high: low)
    return made


def info(predictor: Predictor) -> bytes:
    return json.dumps({"description": predictor.description.model_dump(mode="json")}).encode()


def test_a_busy_service_is_retried_after_the_announced_time(predictor: Predictor, pauses: list[float]):
    runs = {"height": 1, "width": 3, "runs": {"classes": [2, 0], "lengths": [1, 2]}}
    busy = (503, {"Retry-After": "7"}, b"{}")
    given = [(200, {}, info(predictor)), busy, (502, {}, b"<html>"), busy, (200, {}, json.dumps(runs).encode())]
    with answering(*given) as (url, asked):
        assert Client(url)(np.zeros((1, 3, 3), np.uint8)).labels.tolist() == [[2, 0, 0]]
    assert pauses == [7, 1, 7]
    assert len(asked) == 5


def test_retries_are_limited(predictor: Predictor, pauses: list[float]):
    busy = (503, {"Retry-After": "900"}, json.dumps({"detail": "The queue is full."}).encode())
    with answering((200, {}, info(predictor)), busy) as (url, _):
        client = Client(url, tries=3)
        with pytest.raises(UserError, match="The queue is full"):
            client(picture())
    assert pauses == [30, 30]


def test_an_unreachable_service(pauses: list[float]):
    with answering((200, {}, b"")) as (url, _):
        pass
    with pytest.raises(UserError, match="does not respond") as error:
        Client(url, tries=3)
    assert "fastfcn serve" in error.value.hint
    assert pauses == [0.5, 1]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, {}, b"<html>"), "is not from fastfcn"),
        ((401, {}, json.dumps({"detail": "A valid bearer token is required."}).encode()), "FASTFCN_TOKEN"),
        ((404, {}, b"nothing"), "status 404"),
    ],
)
def test_invalid_responses(answer: tuple, words: str, pauses: list[float]):
    with answering(answer) as (url, asked), pytest.raises(UserError, match=words):
        Client(url)
    assert len(asked) == 1


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://a", "http://", ""])
def test_invalid_urls(url: str):
    with pytest.raises(UserError, match="is not a valid service URL"):
        Client(url)
