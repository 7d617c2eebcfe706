"""Atomic file writes: an interrupted program leaves either the old file or the new one, never a partial file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastfcn.errors import OutputError


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

    The temporary name keeps the suffix, because writers choose the format by it. Raises OutputError if the file cannot
    be written.
    """
    target = Path(path)
    make_folder(target.parent)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        raise OutputError(
            f"Cannot write {target}: {_reason(error)}.", "Free some space or choose another place."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, atomically."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
