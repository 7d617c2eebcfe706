"""The interface of an export format: a `Runtime` entry and the `Session` that it opens."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from fastfcn.errors import MissingExtraError

if TYPE_CHECKING:  # torch takes a second to import, which reading metadata does not need
    from torch.export import ExportedProgram


class Session(Protocol):
    """An exported file loaded into its runtime; `metadata` holds the strings written by `fastfcn export`."""

    metadata: dict[str, str]

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Run images (B, H, W, C): RGB uint8, or bands in float32.

        Returns labels (B, H, W), followed by logits (B, classes, H, W) if the file has them.
        """
        ...


@dataclass(frozen=True)
class Runtime:
    """An export format: how its files are named, written and run.

    Attributes:
        name: value of `--format`.
        title: name of the runtime in messages and tables.
        suffix: suffix of the main file, including the dot.
        write: writes a program with its metadata to a path.
        open: loads a file on a device ("cpu", "cuda", ...); raises WeightsError if the file is invalid.
        read_metadata: reads the metadata of a file without its runtime and without running code in it; raises
            WeightsError if the file is invalid. None: the file is opened for it.
        companions: suffixes of the other files of an exported network, stored next to the main file.
        extra: the extra of fastfcn that installs the packages; empty if none is needed.
        writing_packages, running_packages: modules that must be installed to write and to run files.
        devices: device types on which the runtime can run.
        executes_code: loading a file runs native code in it, so the caller has to confirm that it is trusted.
        tracing: how the program is traced (see `exporting.network`). "unbacked": nothing is assumed about sizes;
            "backed": sizes from 33 pixels are assumed; "bounded": as "backed", for single images up to a largest size.
        int8: whether the format can store int8 networks.
        check_tools: raises UserError if a tool for writing files, such as a compiler, is missing.
    """

    name: str
    title: str
    suffix: str
    write: "Callable[[ExportedProgram, dict[str, str], Path], None]"
    open: Callable[[Path, str], Session]
    read_metadata: Callable[[Path], dict[str, str]] | None = None
    companions: tuple[str, ...] = ()
    extra: str = ""
    writing_packages: tuple[str, ...] = ()
    running_packages: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("cpu",)
    executes_code: bool = False
    tracing: Literal["unbacked", "backed", "bounded"] = "unbacked"
    int8: bool = False
    check_tools: Callable[[], None] = lambda: None

    def files(self, path: Path) -> list[Path]:
        """All files of the exported network whose main file is `path`."""
        return [path, *(path.with_suffix(suffix) for suffix in self.companions)]

    def versions(self) -> dict[str, str]:
        """Versions of the packages that write and run the format, by package."""
        packages = ("torch", *self.writing_packages, *self.running_packages)
        return {package: version(package) for package in packages}

    def check_running(self) -> None:
        """Raise MissingExtraError if a package for running files is missing."""
        check_packages(self, self.running_packages, "Running")

    def check_writing(self) -> None:
        """Raise MissingExtraError or UserError if a package or a tool for writing files is missing.

        Files are verified after writing, so this includes the packages for running them.
        """
        check_packages(self, (*self.running_packages, *self.writing_packages), "Writing")
        self.check_tools()


def check_packages(runtime: Runtime, packages: tuple[str, ...], action: str) -> None:
    """Raise MissingExtraError for the first of `packages` that is not installed."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtraError(package, runtime.extra, f"{action} {runtime.suffix} files")


@contextmanager
def quiet_exporters() -> Iterator[None]:
    """Suppress what exporters print: warnings, log lines and, on errors, pages of graphs; users cannot act on them."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
