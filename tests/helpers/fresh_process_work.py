"""Functions that tests run in a fresh process; few imports, so that the process starts quickly."""

import os
import signal

from fastfcn.errors import UserError


def add(first, second, progress):
    progress(1, 2)
    progress(2, 2)
    return {"sum": first + second, "process": os.getpid()}


def refuse(progress):
    raise UserError("No such thing.", "Take another.")


def be_killed(progress):
    os.kill(os.getpid(), signal.SIGKILL)


def fail(progress):
    os._exit(3)
