"""What several commands print or write: errors without a traceback, and records of measurements."""

import errno
import json
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from fastfcn.errors import UserError
from fastfcn.utils.console import error_console, styled
from fastfcn.utils.files import refuse_url


def print_error(error: UserError) -> None:
    """Print the message of an error and its hint to stderr."""
    error_console.print_line(styled("[bold red]Error:[/] {}", error.message))
    if error.hint:
        error_console.print_line(styled("[yellow]{}[/]", error.hint))


def write_record(path: Path | None, record: dict) -> None:
    """Write the record of a measurement as JSON, with the command that made it."""
    from fastfcn.utils.files import write_text
    from fastfcn.utils.provenance import command

    if path:
        write_text(path, json.dumps({"command": command()} | record, indent=1) + "\n")


# Errors of the file system that have their cause outside of this program; Windows lacks some of them.
SYSTEM_ERRORS = (
    "EACCES", "EPERM", "ENAMETOOLONG", "ELOOP", "ENOTDIR", "EISDIR", "EIO", "EROFS", "ENOSPC", "EDQUOT", "EMFILE",
    "ENFILE", "ESTALE", "ENOTCONN",
)  # fmt: skip


def with_system_errors(command: Callable) -> Callable:
    """The command with a UserError for errors of the file system that it does not expect, wherever they occur."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        for value in options.values():
            if isinstance(value, Path):
                refuse_url(value)
        try:
            return command(*arguments, **options)
        except OSError as error:
            if not (problem := _system_problem(error)):
                raise
            raise problem from error
        except RuntimeError as error:
            if not str(error).startswith("Symlink loop"):  # of Path.resolve, which raises OSError from Python 3.13 on
                raise
            raise UserError(f"Cannot access a path: {str(error).lower()}.", "Remove that symbolic link.") from error

    return run


def _system_problem(error: OSError) -> UserError | None:
    """The error for the user if its cause is outside of this program, else None."""
    reason = (error.strerror or str(error)).lower()
    if not _has_current_folder():
        return UserError("The current folder does not exist any more.", "Change to another folder.")
    if errno.errorcode.get(error.errno or 0) not in SYSTEM_ERRORS:
        return None
    if error.filename is not None:
        hint = "Check the path, its permissions and the disk, or use another place."
        return UserError(f"Cannot access {os.fsdecode(error.filename)}: {reason}.", hint)
    if error.errno in (errno.ENOSPC, errno.EIO):  # of a file that is open, such as the output of the command
        return UserError(f"Cannot write: {reason}.", "Free some space, or write the output to another disk.")
    return None


def _has_current_folder() -> bool:
    try:
        return bool(Path.cwd())
    except OSError:
        return False


def escape_unencodable_output() -> None:
    """Make stdout write escapes for characters that its encoding lacks, as stderr does, instead of raising an error."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure:
        reconfigure(errors="backslashreplace")
