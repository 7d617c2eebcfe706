"""Progress bars with time left."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Item = TypeVar("Item")
console = Console(stderr=True)


def progress_bar(*columns: str) -> Progress:
    """A bar with count, time gone and time left, then `columns` (rich markup with task fields)."""
    shown = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    extra = (TextColumn(column) for column in columns)
    return Progress(*shown, TextColumn("[dim]left[/]"), TimeRemainingColumn(), *extra, console=console)


def counted(items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
    """Go through `items` under a progress bar that disappears at the end."""
    with progress_bar() as bar:
        task = bar.add_task(description, total=total)
        for item in items:
            yield item
            bar.advance(task)
        bar.update(task, visible=False)
