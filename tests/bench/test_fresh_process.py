"""A process of its own: what it gives, what it says, and how it may end."""

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


def test_errors_of_the_users_come_back():
    with pytest.raises(UserError) as caught:
        in_fresh_process(work.refuse, progress=ignore)
    assert (caught.value.message, caught.value.hint) == ("No such thing.", "Take another.")


def test_a_killed_process_wanted_too_much_memory():
    with pytest.raises(MemoryError, match="killed the process"):
        in_fresh_process(work.be_killed, progress=ignore)


def test_another_end_is_no_result():
    with pytest.raises(RuntimeError, match="code 3"):
        in_fresh_process(work.fail, progress=ignore)
