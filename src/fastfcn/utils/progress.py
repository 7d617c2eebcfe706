"""Progress bars with the remaining time."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol, TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fastfcn.utils.console import error_console as console
from fastfcn.utils.console import printable, say

ESTIMATE_AFTER = 3.0  # seconds of work that an estimate of the time is made from

Item = TypeVar("Item")


def progress_bar(*columns: str) -> Progress:
    """A bar with count, elapsed and remaining time, then `columns` (rich markup with task fields)."""
    standard = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    extra = (TextColumn(column) for column in columns)
    return Progress(*standard, TextColumn("[dim]left[/]"), TimeRemainingColumn(), *extra, console=console)


def note(text: str) -> None:
    """Print a line to standard error, as it is."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning to standard error; `text` is printed as it is, even if it looks like markup."""
    note(f"Warning: {text}")


def with_progress(items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
    """Yield `items` under a progress bar that disappears at the end."""
    with progress_bar() as bar:
        task = bar.add_task(printable(description), total=total)
        for item in items:
            yield item
            bar.advance(task)
        bar.update(task, visible=False)


class Plan(Protocol):
    """A number of steps, and what they will do in one line."""

    @property
    def plan(self) -> str: ...

    @property
    def steps(self) -> int: ...


@contextmanager
def tile_progress(description: str) -> Iterator[Callable[[Plan], Callable[[], None]]]:
    """A bar over the steps of a plan, which is printed before; the estimated time is printed after some seconds.

    The first step does not count for it: it takes longer, as kernels and memory are prepared. Yields a function that
    takes the plan and returns what is called after each step.
    """
    with progress_bar() as bar:
        task = bar.add_task(printable(description), total=None)

        def begin(plan: Plan) -> Callable[[], None]:
            say("{}: {}", description, plan.plan)
            bar.update(task, total=plan.steps)
            started, done, estimated = monotonic(), 0, False

            def step() -> None:
                nonlocal started, done, estimated
                done += 1
                if done == 1:
                    started = monotonic()
                elif not estimated and (seconds := monotonic() - started) >= ESTIMATE_AFTER:
                    say("{}: about {}", description, duration(seconds / (done - 1) * plan.steps))
                    estimated = True
                bar.advance(task)

            return step

        yield begin
        bar.update(task, visible=False)


def duration(seconds: float) -> str:
    """A duration such as "40 s", "12 min" or "3 h 20 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


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
