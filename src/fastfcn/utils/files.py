"""Atomic file writes: an interrupted program leaves either the old file or the new one, never a partial file."""

import glob
import os
import re
import secrets
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastfcn.errors import OutputError

TEMPORARY_NAME = re.compile(r"\.(.+)\.\d+-[0-9a-f]+(\.[^.]+)")  # of a target that is not too long, see below
TEMPORARY = re.compile(r"\d+-[0-9a-f]+")  # process and random digits in the name of a temporary file
URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")  # "s3:/" is what pathlib leaves of "s3://"; "C:/" is a drive
SHORT = 64  # bytes of a file name that every file system allows


def make_folder(path: str | Path) -> Path:
    """Create the folder `path` with its parents and return it; raises OutputError if it cannot be written to."""
    refuse_url(path)
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot create the folder {folder}: {_reason(error)}.", "Choose another place.") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"Cannot write into the folder {folder}: permission denied.", "Choose another place.")
    return folder


def refuse_url(path: str | Path) -> None:
    """Raise OutputError if `path` is a URL, such as s3://bucket/out: pathlib takes it for a local folder `s3:`."""
    text = os.fspath(path)
    if URL.match(text):
        url = URL.sub(r"\1://", text)
        raise OutputError(
            f"{url} is a URL, but a path on this machine is needed.",
            "Mount the storage as a folder, or copy the files.",
        )


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
        with output_errors(target):
            yield temporary
            temporary.replace(target)
    finally:
        with suppress(OSError):  # the error above says what is wrong
            temporary.unlink(missing_ok=True)


@contextmanager
def output_errors(path: str | Path) -> Iterator[None]:
    """Raise OutputError, naming `path` and the cause, for an OSError while the file `path` is written."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"Cannot write {path}: {_reason(error)}.", "Free some space or choose another place."
        ) from error


def remove_temporary_files(*targets: Path) -> None:
    """Delete what interrupted processes left of `replace_file(target)`; no process may be writing the targets now."""
    for target in targets:
        for path in target.parent.glob(f".{glob.escape(target.stem)}.*-*{glob.escape(target.suffix)}"):
            middle = path.name[len(target.stem) + 2 : len(path.name) - len(target.suffix)]
            if TEMPORARY.fullmatch(middle):
                with suppress(OSError):
                    path.unlink()


def remove_temporary_files_of(folder: Path, targets: Collection[str], present: Iterable[str]) -> None:
    """Like `remove_temporary_files`, for many `targets` in one folder; `present`: the names that it contains."""
    for name in present:
        match = TEMPORARY_NAME.fullmatch(name)
        if match and f"{match[1]}{match[2]}" in targets:
            with suppress(OSError):
                (folder / name).unlink()


def _temporary_name(target: Path) -> str:
    """A hidden name that is used once; the stem is cut so that it is no longer than `target`, or short.

    Processes on several hosts or in several containers can have equal ids, so random digits follow.
    """
    ending = f".{os.getpid()}-{secrets.token_hex(4)}{target.suffix}"
    length = max(len(os.fsencode(target.name)), SHORT) - len(os.fsencode(ending)) - 1
    return "." + os.fsencode(target.stem)[: max(length, 0)].decode(errors="ignore") + ending


def write_text(path: str | Path, text: str, errors: str = "backslashreplace") -> None:
    """Write `text` to `path` in UTF-8, atomically.

    Parts of file names that are not UTF-8 are written as "\\udcdf"; with `errors` = "surrogateescape" as the bytes
    they are, which lists of file names need.
    """
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=errors)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
