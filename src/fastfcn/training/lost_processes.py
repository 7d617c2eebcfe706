"""Explain the end of one of several training processes, which the others notice as a broken connection."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed
from lightning_fabric import Fabric

from fastfcn.errors import UserError
from fastfcn.utils.progress import warn

# In the messages of gloo and NCCL if the connection to a process breaks.
BROKEN = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "broken pipe", "connection refused")
WAIT_SECONDS = 2.0  # the connection breaks before the system reports the end of the process
GRACE_SECONDS = 30.0  # for this process to notice the broken connection and to end by itself
CONTINUE = "The last checkpoint is kept. Continue with the same command and --resume."

Processes = dict[int, subprocess.Popen]  # by rank


class LostProcessError(UserError):
    """Another process of the run has ended."""


@contextmanager
def lost_processes(fabric: Fabric) -> Iterator[None]:
    """Raise LostProcessError for the errors of torch.distributed that the end of another process causes.

    If this process started the others, it watches them: when one fails and this one does not notice it within
    `GRACE_SECONDS`, for example in a collective of NCCL, everything is ended with the same message and exit code 2.
    """
    processes = _take_over(fabric)
    finished = threading.Event()
    if processes:
        threading.Thread(target=_watch, args=(processes, finished), daemon=True).start()
    try:
        yield
    except RuntimeError as error:
        if fabric.world_size == 1 or not _is_broken(error):
            raise
        raise LostProcessError(
            f"Process {fabric.global_rank} of {fabric.world_size} stopped: {_wait_for_failure(processes)}.", CONTINUE
        ) from error
    finally:
        finished.set()


def _take_over(fabric: Fabric) -> Processes:
    """The processes that this one started. Fabric's own observer, which kills this one without a word, loses them."""
    launched: list[subprocess.Popen] = getattr(fabric.strategy.launcher, "procs", [])
    processes = dict(enumerate(launched, start=fabric.global_rank + 1))
    launched.clear()
    return processes


def _watch(processes: Processes, finished: threading.Event) -> None:
    """End all processes if one has failed and the main thread does not react."""
    while not finished.wait(1.0):
        if failure := _failure(processes):
            if finished.wait(GRACE_SECONDS):
                return
            warn(f"Training stopped: {failure}. {CONTINUE}")
            for process in processes.values():
                process.kill()
            os._exit(2)


def _is_broken(error: RuntimeError) -> bool:
    distributed = getattr(torch.distributed, "DistError", ())
    return isinstance(error, distributed) or any(text in str(error).lower() for text in BROKEN)


def _wait_for_failure(processes: Processes) -> str:
    """Which process ended and how, if it was started by this one."""
    deadline = time.monotonic() + WAIT_SECONDS
    while processes and time.monotonic() < deadline:
        if failure := _failure(processes):
            return failure
        time.sleep(0.05)
    return "another process of the run has ended"


def _failure(processes: Processes) -> str | None:
    for rank, process in processes.items():
        if process.poll():
            return f"process {rank} (pid {process.pid}) {_how(process.returncode)}"
    return None


def _how(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}; its error is printed above"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    return f"was killed by signal {name}"
