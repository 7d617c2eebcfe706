"""Work in a process of its own, where nothing is left of earlier work and whose end is survived."""

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from fastfcn.errors import UserError

Progress = Callable[[int, int], None]  # (done, in all)


def in_fresh_process(function: Callable[..., Any], *arguments: Any, progress: Progress) -> Any:
    """`function(*arguments, progress)` in a fresh process; `function` is one that can be imported.

    Raises the UserError that it raised there, MemoryError where the system killed it, as Linux does for want of
    memory, and RuntimeError where it failed in another way; the process has then printed its traceback.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(function, arguments, theirs))
    process.start()
    theirs.close()
    try:
        return _listen(ours, progress)
    except (EOFError, ConnectionResetError):
        process.join()
        if process.exitcode == -signal.SIGKILL:
            raise MemoryError("the system killed the process, as it does when memory runs out") from None
        raise RuntimeError(f"the process ended with code {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
        ours.close()


def _listen(line: Connection, progress: Progress) -> Any:
    while True:
        match line.recv():
            case ("progress", done, total):
                progress(done, total)
            case ("result", result):
                return result
            case ("error", message, hint):
                raise UserError(message, hint)


def _answer(function: Callable[..., Any], arguments: tuple, line: Connection) -> None:
    try:
        line.send(("result", function(*arguments, lambda done, total: line.send(("progress", done, total)))))
    except UserError as error:
        line.send(("error", error.message, error.hint))
    except KeyboardInterrupt:
        pass  # it reaches the parent as well, which speaks
