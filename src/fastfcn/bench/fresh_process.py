"""Run a function in a separate process: memory starts clean, and a crash does not end the parent."""

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from fastfcn.errors import UserError

Progress = Callable[[int, int], None]  # (done, total)


def in_fresh_process(function: Callable[..., Any], *arguments: Any, progress: Progress) -> Any:
    """Return `function(*arguments, progress)`, run in a fresh process; `function` must be importable.

    Raises the UserError that it raised there, MemoryError if the system killed the process (Linux does so when memory
    runs out), and RuntimeError if it failed otherwise; the process then printed its traceback.
    """
    context = multiprocessing.get_context("spawn")
    connection, child_connection = context.Pipe()
    process = context.Process(target=_run, args=(function, arguments, child_connection))
    process.start()
    child_connection.close()
    try:
        return _receive(connection, progress)
    except (EOFError, ConnectionResetError):
        process.join()
        if process.exitcode == -signal.SIGKILL:
            raise MemoryError("the system killed the process, as it does when memory runs out") from None
        raise RuntimeError(f"the process ended with code {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
        connection.close()


def _receive(connection: Connection, progress: Progress) -> Any:
    while True:
        match connection.recv():
            case ("progress", done, total):
                progress(done, total)
            case ("result", result):
                return result
            case ("error", message, hint):
                raise UserError(message, hint)


def _run(function: Callable[..., Any], arguments: tuple, connection: Connection) -> None:
    try:
        result = function(*arguments, lambda done, total: connection.send(("progress", done, total)))
        connection.send(("result", result))
    except UserError as error:
        connection.send(("error", error.message, error.hint))
    except KeyboardInterrupt:
        pass  # the parent receives it too and reports it
