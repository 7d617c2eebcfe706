"""Stages that work at the same time, each in a thread, with short queues between them."""

from collections.abc import Generator, Iterable
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

Item = TypeVar("Item")
WAKE = 0.05  # seconds between looks at whether the reader has gone


def ahead(items: Iterable[Item], depth: int = 4, newest: bool = False) -> Generator[Item]:
    """Go through `items` in a thread of its own, at most `depth` of them ahead of whoever reads.

    An error in there is raised here. Whoever stops reading, or is stopped by an error, must close the generator: that
    ends the thread, and closes `items`. With `newest` the oldest waiting item is dropped where the queue is full: a
    camera does not wait.
    """
    queue: Queue[tuple[str, Any]] = Queue(depth)
    stopped = Event()
    thread = Thread(target=_work, args=(items, queue, stopped, newest), daemon=True, name="ahead")
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


def _work(items: Iterable, queue: Queue, stopped: Event, newest: bool) -> None:
    last: tuple[str, Any] = ("end", None)
    try:
        for item in items:
            if newest:
                _drop_oldest(queue)
            _put(queue, ("item", item), stopped)
            if stopped.is_set():
                break
    except BaseException as error:  # whatever it is, the reader is the one to know
        last = ("error", error)
    finally:
        if isinstance(items, Generator):
            items.close()
        _put(queue, last, stopped)


def _put(queue: Queue, entry: tuple[str, Any], stopped: Event) -> None:
    while not stopped.is_set():
        try:
            queue.put(entry, timeout=WAKE)
            return
        except Full:
            continue


def _drop_oldest(queue: Queue) -> None:
    if queue.full():
        try:
            queue.get_nowait()
        except Empty:
            return
