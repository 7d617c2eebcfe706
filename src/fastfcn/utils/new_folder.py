"""A folder that appears when everything in it is written: an interrupted command leaves no part that looks whole."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastfcn.errors import OutputError
from fastfcn.utils.files import make_folder, output_errors
from fastfcn.utils.lock import locked

LOCK = ".lock"


def check_new_folder(source: Path, out: Path) -> None:
    """Raise OutputError if `out` exists and is not an empty folder, or is inside the folder `source` or contains it."""
    target, origin = out.resolve(), source.resolve()
    if target.is_relative_to(origin) or origin.is_relative_to(target):
        raise OutputError(
            f"{out} is inside {source} or contains it.",
            "Choose a folder elsewhere, so that the originals stay untouched.",
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} already exists.", "Choose a new folder.")
    make_folder(out)


@contextmanager
def complete_folder(source: Path, out: Path, purpose: str) -> Iterator[Path]:
    """Yield a hidden folder next to `out` that becomes `out` at the end, or is removed after an error.

    A process that is killed leaves it; the next one that writes `out` removes it. `purpose`: what writes it, for
    messages. Raises OutputError as `check_new_folder` does, and if another process writes `out`.
    """
    check_new_folder(source, out)
    work = make_folder(out.with_name(f".{out.name}.partial"))
    with output_errors(out):
        try:
            with locked(work / LOCK, purpose):
                _clear(work)
                try:
                    yield work
                except BaseException:
                    _clear(work)
                    raise
            out.rmdir()
            work.rename(out)
        except BaseException:
            for folder in (work, out):
                with suppress(OSError):
                    folder.rmdir()  # if it is empty
            raise


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != LOCK:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
