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
    assert len(names) == 14
    for name in set(names) - {"manifest.jsonl"}:
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
    answers = [(200, {}, info(predictor)), busy, (502, {}, b"<html>"), busy, (200, {}, json.dumps(runs).encode())]
    with answering(*answers) as (url, asked):
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


@contextmanager
def client_of(predictor: Predictor, answer: bytes) -> Iterator[Client]:
    """A client whose service sends `answer` to every image."""
    with answering((200, {}, info(predictor)), (200, {}, answer)) as (url, _):
        yield Client(url, tries=1)


def runs(classes: object, lengths: object, height: object = 64, width: object = 96) -> bytes:
    return json.dumps({"height": height, "width": width, "runs": {"classes": classes, "lengths": lengths}}).encode()


HOSTILE = {
    "class 300": runs([300], [6144]),
    "a class that the model does not have": runs([200], [6144]),
    "negative class": runs([-1], [6144]),
    "another size": runs([0], [1], 1, 1),
    "height and width exchanged": runs([0], [6144], 96, 64),
    "too many pixels": runs([0], [2_000_000_000], 1, 2_000_000_000),
    "longer than the image": runs([0], [2_000_000_000]),
    "beyond 64 bits": runs([0], [10**30]),
    "sum that overflows to the right one": runs([0, 0, 0], [2**63 - 1, 2**63 - 1, 6146]),
    "negative length": runs([0, 0], [6145, -1]),
    "empty runs": runs([0, 1], [6144, 0]),
    "too short": runs([0], [6143]),
    "more classes than lengths": runs([0, 0], [6144]),
    "fractions": runs([0.5], [6144.0]),
    "truth values": runs([True], [6144]),
    "texts": runs("0", "6144"),
    "nested lists": runs([[0]], [[6144]]),
    "no runs": b'{"height": 64, "width": 96}',
    "list": b"[1, 2]",
    "number": b"7",
    "null": b"null",
    "not a number": b'{"height": NaN, "width": Infinity, "runs": null}',
    "deep": b"[" * 200_000,
    "long number": b"1" * 100_000,
    "not UTF-8": b"\xff\xfe\x00",
    "too long": b" " * (client_module.OTHER_BYTES + 6144 * client_module.RUN_BYTES) + b"{} ",
    "nothing": b"",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_responses_that_do_not_fit_the_image_are_refused(kind: str, predictor: Predictor):
    with client_of(predictor, HOSTILE[kind]) as client, pytest.raises(UserError, match="is not from fastfcn"):
        client(picture())


@pytest.mark.parametrize("answer", [b"[" * 100_000, b"[]", b"{}", b"null", b'{"description": 3}', b" " * 2**21 + b"{}"])
def test_hostile_information(answer: bytes):
    with answering((200, {}, answer)) as (url, _), pytest.raises(UserError, match="is not from fastfcn"):
        Client(url, tries=1)


@pytest.mark.parametrize("answer", [b"[" * 100_000, b"[]", b"7", b'{"detail": "' + b"long " * 10_000 + b'"}'])
def test_hostile_error_responses_become_one_short_message(answer: bytes, predictor: Predictor):
    answers = ((200, {}, info(predictor)), (500, {}, answer))
    with answering(*answers) as (url, _), pytest.raises(UserError) as error:
        Client(url, tries=1)(picture())
    assert len(error.value.message) < 400


def test_a_response_that_never_ends_is_given_up(predictor: Predictor, monkeypatch: pytest.MonkeyPatch):
    """Each byte arrives in time, but not the complete response."""
    clock = iter(range(0, 10**6, 50))
    monkeypatch.setattr(client_module, "monotonic", lambda: next(clock))  # of the client alone, not of the service
    with client_of(predictor, b" " * 500_000 + runs([0], [6144])) as client:
        assert client.timeout == 120
        with pytest.raises(UserError, match="no complete response within 120 s"):
            client(picture())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("at", ["/info", "/predict"])
def test_redirects_to_other_servers_are_not_followed(status: int, at: str, predictor: Predictor):
    """They would get the token and the image."""
    with answering((200, {}, info(predictor))) as (other, asked):
        for place in (other, other.replace("127.0.0.1", "localhost"), "https://127.0.0.1:1", "//elsewhere.example"):
            redirect = (status, {"Location": place + "/x"}, b"")
            answers = (redirect,) if at == "/info" else ((200, {}, info(predictor)), redirect)
            with answering(*answers) as (url, _), pytest.raises(UserError) as error:
                Client(url, token="s3cret", tries=1)(picture())
            assert "redirect" in error.value.message or "status 30" in error.value.message
    assert asked == []


def test_redirects_within_the_service_are_followed(predictor: Predictor):
    with answering((302, {"Location": "/v2/info"}, b""), (200, {}, info(predictor))) as (url, asked):
        assert Client(url, token="s3cret").classes == predictor.classes
    assert asked == ["/info", "/v2/info"]
