"""What is recorded with a result: the command, the date and the versions of packages."""

import platform
import shlex
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


def command() -> str:
    """The command line of this process, with the bare name of the program."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def today() -> str:
    """The date in UTC, as YYYY-MM-DD."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of Python and of installed packages, by name."""
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
