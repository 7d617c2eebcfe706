"""A function in a separate process: results, progress, errors and crashes."""

import os

import pytest

from fastfcn.bench.fresh_process import in_fresh_process
from fastfcn.errors import UserError
from tests.helpers import fresh_process_work as work


def ignore(done: int, total: int) -> None:
    pass


def test_result_and_progress_come_back():
    seen = []
    result = in_fresh_process(work.add, 2, 3, progress=lambda done, total: seen.append((done, total)))
    assert result["sum"] == 5
    assert result["process"] != os.getpid()
    assert seen == [(1, 2), (2, 2)]


def test_user_errors_come_back():
    with pytest.raises(UserError) as caught:
        in_fresh_process(work.refuse, progress=ignore)
    assert (caught.value.message, caught.value.hint) == ("No such thing.", "Take another.")


def test_a_killed_process_ran_out_of_memory():
    with pytest.raises(MemoryError, match="killed the process"):
        in_fresh_process(work.be_killed, progress=ignore)


def test_any_other_exit_is_an_error():
    with pytest.raises(RuntimeError, match="code 3"):
        in_fresh_process(work.fail, progress=ignore)
