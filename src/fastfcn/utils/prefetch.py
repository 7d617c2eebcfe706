"""Prefetching: run an iterator in a thread, with a short queue between it and its consumer; and mapping in threads."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
POLL_SECONDS = 0.05  # between checks whether the consumer has stopped


def prefetch(items: Iterable[Item], depth: int = 4, newest: bool = False) -> Generator[Item]:
    """Yield `items` in order while a thread computes up to `depth` of them in advance.

    An exception in the thread is raised here. A consumer that stops early must close the generator, which ends the
    thread and closes `items`. With `newest`, a full queue drops its oldest item instead of blocking, as for a camera.
    """
    queue: Queue[tuple[str, Any]] = Queue(depth)
    stopped = Event()
    thread = Thread(target=_work, args=(items, queue, stopped, newest), daemon=True, name="prefetch")
    thread.start()
    try:
        while True:
            kind, value = queue.get()
            match kind:
                case "item":
                    yield value
                case "error":
                    raise value
                case _:
                    return
    finally:
        stopped.set()
        thread.join()


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Generator[Result]:
    """Yield `function` of each of `items`, in order, computed by several `threads`, or if that is 1 by the caller's.

    At most two items per thread are in progress. An exception is raised here, at the place of its item.
    """
    if threads == 1:
        yield from map(function, items)
        return
    pool, results = ThreadPoolExecutor(threads, thread_name_prefix="map"), deque[Future[Result]]()
    try:
        for item in items:
            results.append(pool.submit(function, item))
            if len(results) == 2 * threads:
                yield results.popleft().result()
        while results:
            yield results.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _work(items: Iterable, queue: Queue, stopped: Event, newest: bool) -> None:
    last: tuple[str, Any] = ("end", None)
    try:
        for item in items:
            if newest:
                _drop_oldest(queue)
            _put(queue, ("item", item), stopped)
            if stopped.is_set():
                break
    except BaseException as error:  # raised again in the consumer
        last = ("error", error)
    finally:
        if isinstance(items, Generator):
            items.close()
        _put(queue, last, stopped)


def _put(queue: Queue, entry: tuple[str, Any], stopped: Event) -> None:
    while not stopped.is_set():
        try:
            queue.put(entry, timeout=POLL_SECONDS)
            return
        except Full:
            continue


def _drop_oldest(queue: Queue) -> None:
    if queue.full():
        try:
            queue.get_nowait()
        except Empty:
            return
