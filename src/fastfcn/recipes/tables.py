"""Recipes on the screen: all of them in a table, one in colour, two side by side."""

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from fastfcn import recipes
from fastfcn.recipes.recipe import Recipe
from fastfcn.recipes.validation import toml_text

# What two recipes never share, and addresses that no table has room for.
_NOT_COMPARED = ("name", "aliases", "summary", "published.weights", "published.source")

_SAID_BY_NAME = ("Head", "Data set")
_WIDE = 110  # columns of the table with all that
_COLUMNS: dict[str, Callable[[Recipe], str]] = {
    "Recipe": lambda one: one.name,
    "Head": lambda one: one.head.kind,
    "Data set": lambda one: one.data.dataset,
    "Crop": lambda one: "x".join(map(str, one.data.crop)),
    "Batch": lambda one: str(one.optim.batch),
    "Steps": lambda one: str(one.optim.steps),
    "mIoU": lambda one: _percent(one.published and one.published.miou),
    "ms+flip": lambda one: _percent(one.published and one.published.miou_tta),
}


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def recipe_table(width: int = _WIDE) -> Table:
    """All recipes with what tells them apart and their published mIoU (%), JPU and dilated by data set.

    Below 110 columns the table leaves out what the names say as well.
    """
    caption = "mIoU as published, at one scale; ms+flip: at six scales, flipped as well"
    table = Table(box=box.SIMPLE_HEAD, caption=caption, padding=(0, 1, 0, 0), pad_edge=False)
    columns = [title for title in _COLUMNS if width >= _WIDE or title not in _SAID_BY_NAME]
    for title in columns:
        justify = "left" if title in ("Recipe", *_SAID_BY_NAME) else "right"
        table.add_column(title, justify=justify, no_wrap=True)
    for group in _groups():
        for one in group:
            table.add_row(*(_COLUMNS[title](one) for title in columns))
        table.add_section()
    return table


def show_recipes(console: Console | None = None) -> None:
    """Print the table of recipes."""
    console = _wide(console)
    console.print(recipe_table(console.width))


def show_recipe(shown: Recipe, console: Console | None = None) -> None:
    """Print one recipe: coloured on a terminal, elsewhere exactly its text (so that `> my.toml` works)."""
    console = console or Console()
    if console.is_terminal:
        # Unwrapped, so that lines copied from the terminal are the lines of the file.
        colored = Syntax("", "toml", theme="ansi_dark").highlight(shown.text)
        console.print(colored, soft_wrap=True, end="")
    else:
        console.file.write(shown.text)


def show_differences(first: Recipe, second: Recipe, console: Console | None = None) -> None:
    """Print a table of the keys in which two recipes differ; names, summaries and addresses are left out."""
    console = _wide(console)
    differences = [row for row in first.differences(second) if row[0] not in _NOT_COMPARED]
    if not differences:
        console.print(f"{first.name} and {second.name} say the same.")
        return
    table = Table("Key", first.name, second.name, box=box.SIMPLE_HEAD)
    for key, mine, theirs in differences:
        table.add_row(key, _cell(mine), _cell(theirs))
    console.print(table)


def _wide(console: Console | None) -> Console:
    """A console with room for a table: rich gives a pipe or a file 80 columns, which need no such limit."""
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, _WIDE)
    return console


def _groups() -> Iterator[list[Recipe]]:
    """The recipes of one data set at a time, those with JPU before their dilated counterparts."""
    shipped = [recipes.load(name) for name in recipes.names()]
    shipped.sort(key=lambda one: (one.data.dataset, one.neck.kind == "none", one.name))
    for _, group in groupby(shipped, key=lambda one: one.data.dataset):
        yield list(group)


def _cell(value: Any) -> Text:
    # As Text, because rich would read a list in square brackets as markup.
    return Text("" if value is None else toml_text(value))
