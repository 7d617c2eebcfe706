"""Explain the end of one of several training processes, which the others notice as a broken connection."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed
from lightning_fabric import Fabric

from fastfcn.errors import UserError

# In the messages of gloo and NCCL if the connection to a process breaks.
BROKEN = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "broken pipe", "connection refused")
WAIT_SECONDS = 2.0  # the connection breaks before the system reports the end of the process


class LostProcessError(UserError):
    """Another process of the run has ended."""


@contextmanager
def lost_processes(fabric: Fabric) -> Iterator[None]:
    """Raise LostProcessError for the errors of torch.distributed that the end of another process causes."""
    try:
        yield
    except RuntimeError as error:
        if fabric.world_size == 1 or not _is_broken(error):
            raise
        raise LostProcessError(
            f"Process {fabric.global_rank} of {fabric.world_size} stopped: {_ended(fabric)}.",
            "The last checkpoint is kept. Continue with the same command and --resume.",
        ) from error


def _is_broken(error: RuntimeError) -> bool:
    distributed = getattr(torch.distributed, "DistError", ())
    return isinstance(error, distributed) or any(text in str(error).lower() for text in BROKEN)


def _ended(fabric: Fabric) -> str:
    """Which process ended and how, if it was started by this one."""
    processes: list[Any] = getattr(fabric.strategy.launcher, "procs", [])
    deadline = time.monotonic() + WAIT_SECONDS
    while processes and time.monotonic() < deadline:
        for rank, process in enumerate(processes, start=fabric.global_rank + 1):
            if process.poll():
                return f"process {rank} (pid {process.pid}) {_how(process.returncode)}"
        time.sleep(0.05)
    return "another process of the run has ended"


def _how(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}; its error is printed above"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    return f"was killed by signal {name}"
