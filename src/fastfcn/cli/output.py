"""Terminal output: consoles, lines, errors without a traceback, and JSON files."""

import json
from pathlib import Path

from rich.console import Console

from fastfcn.errors import UserError

out_console = Console()
error_console = Console(stderr=True)


def say(text: str) -> None:
    """Print a line without wrapping it, so that paths and commands can be copied."""
    out_console.print(text, soft_wrap=True, highlight=False)


def print_error(error: UserError) -> None:
    """Print the message of an error and its hint to stderr."""
    error_console.print(f"[bold red]Error:[/] {plain(error.message)}", highlight=False, soft_wrap=True)
    if error.hint:
        error_console.print(f"[yellow]{plain(error.hint)}[/]", highlight=False, soft_wrap=True)


def plain(text: str) -> str:
    """Escape square brackets, which are markup for rich."""
    return text.replace("[", r"\[")


def write_record(path: Path | None, record: dict) -> None:
    """Write the record of a measurement as JSON, with the command that made it."""
    from fastfcn.utils.files import write_text
    from fastfcn.utils.provenance import command

    if path:
        write_text(path, json.dumps({"command": command()} | record, indent=1) + "\n")
