"""The command line inside the test's own process: a fresh one would take seconds to import torch."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple
from unittest import mock

from fastfcn.cli import main


class Finished(NamedTuple):
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


def fastfcn(*arguments: object) -> Finished:
    """The result of `fastfcn ARGUMENTS`; unexpected exceptions are raised in the test."""
    out, err = io.StringIO(), io.StringIO()
    with mock.patch.object(sys, "argv", ["fastfcn", *map(str, arguments)]), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return Finished(code, out.getvalue(), err.getvalue())
