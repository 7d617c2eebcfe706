"""Tables on narrow terminals: less important columns are left out, so that the others can be read."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table

NAME_WIDTH = 12  # characters of a column that can be wrapped; below this, other columns are left out


def fit(table: Table, console: Console, optional: Sequence[int]) -> Table:
    """`table` without as many of its `optional` columns (indices, least important first) as `console` requires.

    Columns that can be wrapped (no_wrap=False) count with at most NAME_WIDTH characters. `table` is changed.
    """
    removable = [table.columns[index] for index in optional]
    while removable and _needed_width(table.columns, console) > console.width:
        table.columns.remove(removable.pop(0))
    for index, column in enumerate(table.columns):
        column._index = index
    return table


def _needed_width(columns: list[Column], console: Console) -> int:
    """The width of the columns with a space on both sides and a line between them."""
    options = console.options.update(width=10_000)
    total = 1
    for column in columns:
        width = max(console.measure(cell, options=options).maximum for cell in (column.header, *column.cells))
        total += 3 + (width if column.no_wrap else min(width, NAME_WIDTH))
    return total
