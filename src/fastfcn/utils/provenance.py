"""What is recorded with a result: the command, the date and the versions of packages."""

import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

# Packages that results can depend on.
PACKAGES = ("fastfcn", "torch", "timm", "lightning-fabric", "numpy", "pillow")


def command() -> str:
    """The command line of this process, with the bare name of the program."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def today() -> str:
    """The date in UTC, as YYYY-MM-DD."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


def package_versions() -> dict[str, str]:
    """Installed versions of PACKAGES, by name."""
    return {name: version(name) for name in PACKAGES}
