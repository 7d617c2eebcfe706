"""What `fastfcn info` found, on the screen."""

from collections.abc import Iterator
from typing import Any

from rich.columns import Columns
from rich.console import Console
from rich.markup import escape
from rich.table import Table

NOT_KNOWN = "not known: the file is older than that note"


def show_info(about: dict[str, Any], console: Console) -> None:
    """Print the facts in two columns, and below them the classes with their colours."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _rows(about):
        table.add_row(name, escape(value))
    console.print(f"[bold]{escape(about['file'])}[/]", highlight=False, soft_wrap=True)
    console.print(table, highlight=False)
    console.print(f"\n{len(about['classes'])} classes", highlight=False)
    console.print(Columns([_swatch(each) for each in about["classes"]], padding=(0, 3)), highlight=False)


def _rows(about: dict[str, Any]) -> Iterator[tuple[str, str]]:
    parts, made = about["network"], about["made"]
    yield "recipe", about["recipe"]
    yield "", about["summary"]
    yield "network", f"{parts['backbone']} -> {parts['neck']} -> {parts['head']}"
    yield "parameters", f"{millions(about['parameters'])}; {millions(about['training_parameters'])} in training"
    yield "size", f"{about['bytes'] / 1e6:.1f} MB"
    yield "data set", f"{about['dataset']['title']} ({about['dataset']['name']})"
    yield "score", score_line(about)
    versions = ", ".join(f"{name} {value}" for name, value in made.items() if name != "time")
    yield "made", f"{made['time']} with {versions}" if made else NOT_KNOWN


def score_line(about: dict[str, Any]) -> str:
    """The score in words: measured while training, or published, or unknown."""
    score, published = about["score"], about["published"] or {}
    if "miou" in score:
        split = f" on {score['split']}" if "split" in score else ""
        step = f" after {score['step']} steps" if "step" in score else ""
        return f"mIoU {score['miou']:.2f}{split}{step}"
    if "miou" in published:
        return f"mIoU {published['miou']:.2f} as published; converted from {score['converted_from']}"
    if "converted_from" in score:
        return f"none noted; converted from {score['converted_from']}"
    return "none noted; measure it: fastfcn evaluate WEIGHTS --data FOLDER"


def millions(count: int) -> str:
    """A count of parameters, short."""
    return f"{count / 1e6:.1f} million" if count >= 1e6 else f"{count:,}"


def _swatch(entry: dict[str, Any]) -> str:
    red, green, blue = entry["color"]
    return f"[rgb({red},{green},{blue})]■[/] {escape(entry['name'])}"
