"""Prefetching threads: order is kept, errors are passed on, and no thread is left."""

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing

import pytest

from fastfcn.utils.prefetch import map_in_threads, prefetch


class Source:
    """Numbers; records how many were taken and whether the iterator was closed."""

    def __init__(self, count: int, error: Exception | None = None):
        self.count, self.error, self.taken, self.closed = count, error, 0, False

    def items(self) -> Iterator[int]:
        try:
            for index in range(self.count):
                self.taken += 1
                yield index
            if self.error:
                raise self.error
        finally:
            self.closed = True


def test_order_is_kept_through_stages():
    source = Source(100)
    assert list(prefetch((2 * value for value in prefetch(source.items(), 3)), 2)) == list(range(0, 200, 2))
    assert source.closed


def test_an_error_comes_after_what_was_before_it():
    read = prefetch(Source(3, ValueError("broken")).items())
    assert [next(read), next(read), next(read)] == [0, 1, 2]
    with pytest.raises(ValueError, match="broken"):
        next(read)


def test_no_more_than_the_queue_is_read_ahead():
    source = Source(1000)
    read = prefetch(source.items(), 3)
    next(read)
    time.sleep(0.05)
    assert source.taken <= 1 + 3 + 1  # taken, queued, being produced
    read.close()


def test_whoever_stops_ends_all_stages():
    source = Source(1000)
    read = prefetch(iter_all(prefetch(source.items())))
    assert next(read) == 0
    assert [thread.name for thread in threading.enumerate()].count("prefetch") == 2
    read.close()
    assert "prefetch" not in [thread.name for thread in threading.enumerate()]
    assert source.closed


def iter_all(items: Generator[int]) -> Iterator[int]:
    with closing(items):
        yield from items


def test_the_newest_wins():
    """A slow reader gets the latest items, including the very last one."""
    source = Source(500)
    read = prefetch(source.items(), 2, newest=True)
    seen = [next(read)]
    while not source.closed:
        time.sleep(0.001)
    seen += list(read)
    assert seen == sorted(set(seen))
    assert seen[-1] == 499
    assert len(seen) < 500


def test_threads_keep_the_order_and_take_no_more_than_they_need():
    source, first = Source(100), threading.Event()

    def doubled(value: int) -> int:
        if value == 0:
            assert first.wait(10)
        if value == 3:
            first.set()
        return 2 * value

    results = map_in_threads(doubled, source.items(), 2)
    assert next(results) == 0, "the first result ends last"
    assert source.taken == 4
    assert list(results) == list(range(2, 200, 2))


def test_an_error_in_a_thread_comes_in_its_place():
    results = map_in_threads(lambda value: 6 // (2 - value), range(100), 3)
    assert [next(results), next(results)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_one_thread_is_that_of_the_caller():
    caller = threading.current_thread()
    assert list(map_in_threads(lambda _: threading.current_thread() is caller, range(3), 1)) == [True] * 3
