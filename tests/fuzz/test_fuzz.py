"""A small share of the inputs of `python -m tests.fuzz`, and its parts."""

import random
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from fastfcn.errors import UserError
from tests.fuzz import run
from tests.fuzz.http_requests import damaged_request, request_seeds, statuses_of
from tests.fuzz.mutate import damaged, damaged_text
from tests.fuzz.run import Result, fuzz, run_one
from tests.helpers.annotated_sets import SETS

TARGETS = (
    *("image readers", "mask readers", "predict", "check, image", "check, mask", "requests"),
    *("classes.txt", "class_dict.csv", "train.txt", "dataset.toml", "recipe", "override"),
    *("weights", "header of weights", "checkpoint to convert", "last.ckpt", "log.jsonl, resumed"),
    *("log.jsonl, reported", "environment.toml", "recipe.toml of a run", *(f"import, {name}" for name in SETS)),
)


@pytest.mark.filterwarnings("ignore")
def test_damaged_inputs_end_in_clear_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each kind of input is fuzzed; in CI with few of them."""
    monkeypatch.setenv("FASTFCN_KERNELS", "off")
    result = fuzz(tmp_path, 150, seed=1)
    assert result.faults == {}
    assert sorted(result.counts) == sorted(TARGETS)


def read_nothing() -> None:
    pass


def refuse() -> None:
    raise UserError("wrong")


def fail() -> None:
    raise KeyError("x")


def grow() -> None:
    bytearray(5 * 2**30)


@pytest.mark.parametrize(
    ("read", "fault"),
    [
        (read_nothing, None),
        (refuse, None),
        (fail, ("test_fuzz.py", "KeyError", "'x'")),
        (grow, ("test_fuzz.py", "MemoryError", "")),
    ],
)
def test_faults_are_all_but_errors_for_users(read: Callable[[], None], fault: tuple[str, str, str] | None):
    result = run_one("input", read)
    if fault is None:
        assert result is None
    else:
        assert result is not None
        place, text = result
        assert place.startswith(fault[0])
        assert place.endswith(fault[1])
        assert text == fault[2]


@pytest.mark.parametrize("limit", ["SECONDS", "PATIENCE"])
def test_an_input_that_takes_too_long_is_a_fault(limit: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run, limit, 0.05)

    def hang() -> None:
        while True:
            if limit == "PATIENCE":
                Event().wait()

    assert run_one("input", hang) == (f"input: {run.TOO_LONG}", "")


def test_faults_are_grouped_by_place():
    result = Result()
    assert result.add("first", "a.py:1", "text")
    assert not result.add("second", "a.py:1", "other")
    assert result.faults == {"a.py:1": (2, "first", "text")}


@pytest.mark.parametrize("change", [damaged, damaged_text, damaged_request])
def test_damage_depends_on_the_seed_alone(change: Callable[[bytes, random.Random], bytes]):
    seeds = request_seeds() if change is damaged_request else (b'a = 1\nb = "two"\n',) * 4
    first, again = ([change(data, random.Random(number)) for number, data in enumerate(seeds)] for _ in range(2))
    assert first == again
    assert list(seeds) != first
    assert all(isinstance(change(b"", random.Random(number)), bytes) for number in range(200))


def test_all_statuses_of_a_connection():
    body = b"HTTP/1.1 500 in a body"
    answer = (
        b"HTTP/1.1 100 \r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
        b"HTTP/1.1 503 Busy\r\n\r\nrest"
    )
    assert statuses_of(answer % (len(body), b"x" + body[1:])) == [100, 200, 404, 503]
    assert statuses_of(b"") == []
