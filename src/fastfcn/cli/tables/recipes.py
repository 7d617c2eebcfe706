"""The tables of `fastfcn recipes` and `fastfcn recipe`."""

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

from rich import box
from rich.syntax import Syntax
from rich.table import Table

from fastfcn import recipes
from fastfcn.recipes.recipe import Recipe
from fastfcn.recipes.validation import toml_text
from fastfcn.utils.console import SafeConsole, out_console, printable

# These differ between any two recipes, or are too long for a table.
_NOT_COMPARED = ("name", "aliases", "summary", "published.weights", "published.source")

_PART_OF_NAME = ("Head", "Dataset")  # left out of narrow tables
_WIDE = 110  # characters of the full table
_COLUMNS: dict[str, Callable[[Recipe], str]] = {
    "Recipe": lambda recipe: recipe.name,
    "Head": lambda recipe: recipe.head.kind,
    "Dataset": lambda recipe: recipe.data.dataset,
    "Crop": lambda recipe: "x".join(map(str, recipe.data.crop)),
    "Batch": lambda recipe: str(recipe.optim.batch),
    "Steps": lambda recipe: str(recipe.optim.steps or f"{recipe.optim.epochs:g} epochs"),
    "mIoU": lambda recipe: _percent(recipe.published and recipe.published.miou),
    "ms+flip": lambda recipe: _percent(recipe.published and recipe.published.miou_tta),
}


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def recipe_table(width: int = _WIDE) -> Table:
    """All recipes with their main settings and published mIoU (%), grouped by dataset.

    A table narrower than 110 characters leaves out head and dataset, which are part of the recipe's name.
    """
    caption = "mIoU: published, single scale; ms+flip: published, six scales and flipping"
    table = Table(box=box.SIMPLE_HEAD, caption=caption, padding=(0, 1, 0, 0), pad_edge=False)
    columns = [title for title in _COLUMNS if width >= _WIDE or title not in _PART_OF_NAME]
    for title in columns:
        justify = "left" if title in ("Recipe", *_PART_OF_NAME) else "right"
        table.add_column(title, justify=justify, no_wrap=True)
    for group in _groups():
        for recipe in group:
            table.add_row(*(_COLUMNS[title](recipe) for title in columns))
        table.add_section()
    return table


def show_recipes(console: SafeConsole = out_console) -> None:
    """Print the table of recipes."""
    console = _wide(console)
    console.print(recipe_table(console.width))


def show_recipe(recipe: Recipe, console: SafeConsole = out_console) -> None:
    """Print a recipe: with colors on a terminal, and exactly its text otherwise, so that `> my.toml` works."""
    if console.is_terminal:
        # Not wrapped, so that lines copied from the terminal equal those of the file.
        colored = Syntax("", "toml", theme="ansi_dark").highlight(recipe.text)
        console.print(colored, soft_wrap=True, end="")
    else:
        console.file.write(printable(recipe.text, console.encoding))


def show_differences(first: Recipe, second: Recipe, console: SafeConsole = out_console) -> None:
    """Print the keys in which two recipes differ, without names, summaries and URLs."""
    console = _wide(console)
    differences = [row for row in first.differences(second) if row[0] not in _NOT_COMPARED]
    if not differences:
        console.print(f"{first.name} and {second.name} have the same settings.")
        return
    table = Table("Key", first.name, second.name, box=box.SIMPLE_HEAD)
    for key, first_value, second_value in differences:
        table.add_row(key, _cell(first_value), _cell(second_value))
    console.print(table)


def _wide(console: SafeConsole) -> SafeConsole:
    """A console wide enough for a table: rich limits pipes and files to 80 characters without need."""
    if not console.is_terminal:
        console.width = max(console.width, _WIDE)
    return console


def _groups() -> Iterator[list[Recipe]]:
    """The recipes of one dataset at a time, those with JPU before their dilated baselines."""
    shipped = [recipes.load(name) for name in recipes.names()]
    shipped.sort(key=lambda recipe: (recipe.data.dataset, recipe.neck.kind == "none", recipe.name))
    for _, group in groupby(shipped, key=lambda recipe: recipe.data.dataset):
        yield list(group)


def _cell(value: Any) -> str:
    return "" if value is None else toml_text(value)
