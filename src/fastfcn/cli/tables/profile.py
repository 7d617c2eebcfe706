"""The tables of `fastfcn profile`: the stages of a network, or the networks that meet a latency budget."""

from collections.abc import Callable

from rich import box
from rich.table import Table
from rich.text import Text

from fastfcn.bench.profile import network_kinds, stage_order, stage_title
from fastfcn.bench.record import machine_name
from fastfcn.cli.tables.bench import busy_warning
from fastfcn.utils.console import styled

Column = tuple[str, Callable[[dict], float], Callable[[float], str]]  # title, value, format

COLUMNS: tuple[Column, ...] = (
    ("M param.", lambda stage: stage["parameters"] / 1e6, lambda x: f"{x:.2f}"),
    ("GFLOPs", lambda stage: stage["gflops"], lambda x: f"{x:.1f}" if x >= 10 else f"{x:.2f}"),
    ("ms", lambda stage: stage["ms"], lambda x: f"{x:.3g}" if x < 100 else f"{x:.0f}"),
    ("MiB", lambda stage: stage["weights_mib"] + stage["output_mib"], lambda x: f"{x:.1f}"),
)
GROWTH: Column = ("peak MiB", lambda stage: stage["peak_growth_mib"], lambda x: f"{x:.1f}")
BUDGET_ROWS = 20  # candidates shown; the JSON file holds all of them
FASTEST = 3  # candidates shown if none meets the budget


def stage_table(record: dict) -> Table:
    """The stages of one network, or of a network and its dilated baseline side by side."""
    networks = record["networks"]
    table = _plain_table(_stage_title(record), _stage_caption(record))
    table.add_column("stage", no_wrap=True)
    columns = columns_of(record)
    for kind in network_kinds(record):
        for index, (title, _, _) in enumerate(columns):
            header = styled("[bold]{}[/]\n{}", kind if index == 0 else "", title) if len(networks) > 1 else title
            table.add_column(header, justify="right", no_wrap=True)
    for name in stage_order(record):
        cells = _stage_cells(record, lambda stages, name=name: stages.get(name))
        table.add_row(stage_title(name, networks[0]), *cells)
    table.add_section()
    table.add_row(styled("[bold]all[/]"), *_stage_cells(record, _totals))
    return table


def columns_of(record: dict) -> tuple[Column, ...]:
    """The columns of a record; memory growth is measured on a GPU only."""
    return COLUMNS + ((GROWTH,) if "peak_growth_mib" in record["networks"][0]["stages"][0] else ())


def budget_table(record: dict) -> Table:
    """The candidates that meet the budget, or the fastest ones if none does."""
    fitting = [candidate for candidate in record["candidates"] if candidate["fits"]]
    timed = [candidate for candidate in record["candidates"] if candidate["ms"] is not None]
    candidates = fitting[:BUDGET_ROWS] or sorted(timed, key=lambda candidate: candidate["ms"])[:FASTEST]
    table = _plain_table(_budget_title(record, fitting), _budget_caption(fitting))
    for title in ("recipe", "JPU", "size", "GFLOPs", "ms", "", "mIoU"):
        justify = "left" if title in ("recipe", "") else "right"
        table.add_column(title, justify=justify, no_wrap=title != "recipe", overflow="fold")
    for candidate in candidates:
        table.add_row(*_candidate_cells(candidate))
    return table


def _plain_table(title: str, caption: str | Text) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title, caption=caption, padding=(0, 1, 0, 0), pad_edge=False)
    table.title_justify = table.caption_justify = "left"
    return table


def _stage_cells(record: dict, select: Callable[[dict], dict | None]) -> list[str]:
    """The cells of one row; `select` takes its values from a network's stages, which are keyed by name."""
    cells = []
    for network in record["networks"]:
        values = select({stage["stage"]: stage for stage in network["stages"]})
        cells += [text(value(values)) if values else "" for _, value, text in columns_of(record)]
    return cells


def _totals(stages: dict) -> dict:
    first, *rest = stages.values()
    totals = {name: value for name, value in first.items() if name != "stage"}
    for stage in rest:
        # Peaks do not add up: a stage starts after the one before it has freed its temporary memory.
        totals = {
            name: max(value, stage[name]) if "peak" in name else value + stage[name] for name, value in totals.items()
        }
    return totals


def _stage_title(record: dict) -> str:
    names = [
        f"{kind}: {network['name']}" for kind, network in zip(network_kinds(record), record["networks"], strict=True)
    ]
    height, width = record["size"]
    return "\n".join([*names, f"{height}x{width}, {record['precision']}, {machine_name(record)}"])


def _stage_caption(record: dict) -> Text:
    unmarked = ", ".join(f"{network['ms_unmarked']:.4g}" for network in record["networks"])
    runs = record["networks"][0]["runs"]
    peak = " Peak: largest growth of tensor memory within a stage." if GROWTH in columns_of(record) else ""
    fused = any(network.get("neck_runs_heads_1x1") for network in record["networks"])
    joined = " The head's first 1x1 convolution runs with the neck and counts as part of it." if fused else ""
    note = (
        f"ms: median of {runs} pass(es), synchronized after each stage; without synchronizing: {unmarked} ms in total. "
        f"MiB: weights as used for inference, plus the stage's output.{peak}{joined}"
    )
    return styled("{} {}", note, busy_warning(record["cores_busy"], record))


def _candidate_cells(candidate: dict) -> tuple[str | Text, ...]:
    neck = str({"jpu": candidate["width"], "none": "dilated"}.get(candidate["neck"], candidate["neck"]))
    size, published = "x".join(map(str, candidate["size"])), candidate["published_miou"]
    time = f"{candidate['ms']:.3g}" if candidate["ms"] < 100 else f"{candidate['ms']:.0f}"
    measured = candidate["figure"] == "measured"
    latency = time if measured else styled("[dim]~ {}[/]", time)
    figure = candidate["figure"] if measured else styled("[dim]{}[/]", candidate["figure"])
    miou = "" if published is None else f"{published:.2f}"
    return str(candidate["recipes"][0]), neck, size, f"{candidate['gflops']:.1f}", latency, figure, miou


def _budget_title(record: dict, fitting: list[dict]) -> str:
    budget = f"{record['budget_ms']:.4g} ms, {record['precision']}, {machine_name(record)}"
    if not fitting:
        return f"No candidate meets {budget}; the fastest:"
    return f"{len(fitting)} of {len(record['candidates'])} candidates meet {budget}"


def _budget_caption(fitting: list[dict]) -> str:
    hidden = len(fitting) - BUDGET_ROWS
    more = f"{hidden} more are in the --json file. " if hidden > 0 else ""
    return (
        f"{more}Best first: largest image, then largest backbone, then full JPU width, then lowest latency. "
        "JPU: neck.width. mIoU: published, at the recipe's own test size."
    )
