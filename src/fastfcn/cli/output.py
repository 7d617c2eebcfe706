"""What the command line prints: lines, and errors without a traceback."""

import json
from pathlib import Path

from rich.console import Console

from fastfcn.errors import UserError

out_console = Console()
error_console = Console(stderr=True)


def say(text: str) -> None:
    """Print a line that is not broken, so that paths and commands can be copied."""
    out_console.print(text, soft_wrap=True, highlight=False)


def print_error(error: UserError) -> None:
    error_console.print(f"[bold red]Error:[/] {plain(error.message)}", highlight=False, soft_wrap=True)
    if error.hint:
        error_console.print(f"[yellow]{plain(error.hint)}[/]", highlight=False, soft_wrap=True)


def plain(text: str) -> str:
    return text.replace("[", r"\[")


def write_record(path: Path | None, record: dict) -> None:
    """Write the record of a measurement as JSON, with the command that made it."""
    from fastfcn.utils.files import write_text
    from fastfcn.utils.provenance import command

    if path:
        write_text(path, json.dumps({"command": command()} | record, indent=1) + "\n")
