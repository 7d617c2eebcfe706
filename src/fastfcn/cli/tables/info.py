"""The table of `fastfcn info`: what a weights file or an exported file contains."""

from collections.abc import Iterator
from typing import Any

from rich.columns import Columns
from rich.table import Table

from fastfcn.utils.console import SafeConsole, styled, swatch
from fastfcn.weights.info import millions, score_line

NOT_RECORDED = "not recorded: the file was written by an older version"


def show_info(info: dict[str, Any], console: SafeConsole) -> None:
    """Print what `fastfcn.prediction.info.info` returns in two columns, and below it the classes with their colors."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _rows(info):
        table.add_row(name, value)
    console.print_line(styled("[bold]{}[/]", info["file"]))
    console.print(table)
    console.print(f"\n{len(info['classes'])} classes")
    console.print(
        Columns([styled("{} {}", swatch(entry["color"]), entry["name"]) for entry in info["classes"]], padding=(0, 3))
    )


def _rows(info: dict[str, Any]) -> Iterator[tuple[str, str]]:
    network, provenance = info["network"], info["made"]
    yield "recipe", info["recipe"]
    yield "", info["summary"]
    yield "network", f"{network['backbone']} -> {network['neck']} -> {network['head']}"
    if "bands" in network:
        yield "bands", ", ".join(map(str, network["bands"]))
    if "runtime" in info:
        limit = f", up to {info['largest'][0]}x{info['largest'][1]}" if info["largest"] else ""
        yield (
            "exported",
            f"for {info['runtime']}, {info['precision']}: images{limit} to {' and '.join(info['outputs'])}",
        )
    else:
        yield "parameters", f"{millions(info['parameters'])}; {millions(info['training_parameters'])} during training"
    yield "size", f"{info['bytes'] / 1e6:.1f} MB"
    yield "inference", info["inference"]["text"]
    yield "dataset", f"{info['dataset']['title']} ({info['dataset']['name']})"
    yield "score", score_line(info)
    versions = ", ".join(f"{name} {value}" for name, value in provenance.items() if name != "time")
    yield "created", f"{provenance['time']} with {versions}" if provenance else NOT_RECORDED
