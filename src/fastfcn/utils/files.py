"""Atomic file writes: an interrupted program leaves either the old file or the new one, never a partial file."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastfcn.errors import OutputError

_count = itertools.count()  # temporary files of this process
SHORT = 64  # bytes of a file name that every file system allows


def make_folder(path: str | Path) -> Path:
    """Create the folder `path` with its parents and return it; raises OutputError if it cannot be written to."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot create the folder {folder}: {_reason(error)}.", "Choose another place.") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"Cannot write into the folder {folder}: permission denied.", "Choose another place.")
    return folder


@contextmanager
def replace_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` at the end, or delete it after an error.

    The temporary name keeps the suffix, because writers choose the format by it, and is never too long if that of
    `path` is not. Raises OutputError if the file cannot be written.
    """
    target = Path(path)
    make_folder(target.parent)
    temporary = target.with_name(_temporary_name(target))
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        raise OutputError(
            f"Cannot write {target}: {_reason(error)}.", "Free some space or choose another place."
        ) from error
    finally:
        with suppress(OSError):  # the error above says what is wrong
            temporary.unlink(missing_ok=True)


def _temporary_name(target: Path) -> str:
    """A hidden name that this process uses once; the stem is cut so that it is no longer than `target`, or short."""
    ending = f".{os.getpid()}-{next(_count)}{target.suffix}"
    length = max(len(os.fsencode(target.name)), SHORT) - len(os.fsencode(ending)) - 1
    return "." + os.fsencode(target.stem)[: max(length, 0)].decode(errors="ignore") + ending


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, atomically."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
