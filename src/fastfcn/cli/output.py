"""What several commands print or write: errors without a traceback, and records of measurements."""

import json
import sys
from pathlib import Path

from fastfcn.errors import UserError
from fastfcn.utils.console import error_console, styled


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


def escape_unencodable_output() -> None:
    """Make stdout write escapes for characters that its encoding lacks, as stderr does, instead of raising an error."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure:
        reconfigure(errors="backslashreplace")
