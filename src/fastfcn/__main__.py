"""`python -m fastfcn`."""

import os
import sys

# Python searches the current folder first. Inside this package its modules would be imported in place of others, such
# as `profile` of the standard library; child processes do not search it either.
PACKAGE = os.path.realpath(os.path.dirname(__file__))  # noqa: PTH120 # pathlib would be imported from there
if os.path.commonpath([PACKAGE, os.path.realpath(os.curdir)]) == PACKAGE:
    here = os.path.realpath(os.curdir)
    sys.path[:] = [path for path in sys.path if os.path.realpath(path) != here]
    os.environ["PYTHONSAFEPATH"] = "1"

from fastfcn.cli import main  # noqa: E402

main()
