"""Progress bars with the remaining time."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fastfcn.utils.console import error_console as console
from fastfcn.utils.console import printable

Item = TypeVar("Item")


def progress_bar(*columns: str) -> Progress:
    """A bar with count, elapsed and remaining time, then `columns` (rich markup with task fields)."""
    standard = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    extra = (TextColumn(column) for column in columns)
    return Progress(*standard, TextColumn("[dim]left[/]"), TimeRemainingColumn(), *extra, console=console)


def warn(text: str) -> None:
    """Print a warning to standard error; `text` is printed as it is, even if it looks like markup."""
    console.print(f"Warning: {text}", markup=False, highlight=False, soft_wrap=True)


def with_progress(items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
    """Yield `items` under a progress bar that disappears at the end."""
    with progress_bar() as bar:
        task = bar.add_task(printable(description), total=total)
        for item in items:
            yield item
            bar.advance(task)
        bar.update(task, visible=False)


@contextmanager
def video_progress(description: str) -> Iterator[Callable[[int | None], Callable[[int, float], None]]]:
    """A bar over the frames of a video, with frames per second, that disappears at the end.

    Yields a function that takes the number of frames, None if unknown, and returns an update function for
    (frames done, frames per second).
    """
    with progress_bar("[bold]{task.fields[speed]}[/] frames/s") as bar:
        task = bar.add_task(printable(description), total=None, speed="-")

        def update(frames: int, speed: float) -> None:
            bar.update(task, completed=frames, speed=f"{speed:.1f}")  # type: ignore[arg-type] # a field of the bar

        def expect(total: int | None) -> Callable[[int, float], None]:
            bar.update(task, total=total)
            return update

        yield expect
        bar.update(task, visible=False)
