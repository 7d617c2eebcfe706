"""What `fastfcn bench` measured as a table: a line for each figure, a column for each recipe."""

from collections.abc import Callable

from rich import box
from rich.table import Table

from fastfcn.bench.record import busy_warning, machine_name

Line = tuple[str, Callable[[dict], float], Callable[[float], str]]  # title, figure, how it is written

INFERENCE: tuple[Line, ...] = (
    ("images/s", lambda one: one["images_per_second"], lambda x: f"{x:.4g}"),
    ("ms, median", lambda one: one["p50_ms"], lambda x: f"{x:.4g}"),
    ("ms, 95 of 100", lambda one: one["p95_ms"], lambda x: f"{x:.4g}"),
    ("peak memory MiB", lambda one: one["peak_memory_mib"], lambda x: f"{x:.0f}"),
    ("GFLOP", lambda one: one["gflops"], lambda x: f"{x:.1f}"),
    ("share of the peak", lambda one: one["share_of_peak"], lambda x: f"{x:.0%}"),
    ("parameters, million", lambda one: one["parameters"] / 1e6, lambda x: f"{x:.2f}"),
)
TRAINING: tuple[Line, ...] = INFERENCE[:4]


def bench_table(record: dict) -> Table:
    """The figures side by side; of two recipes also how many times the second's the first's are."""
    results = record["results"]
    table = Table(box=box.SIMPLE_HEAD, title=machine_name(record), title_justify="left", caption=_caption(record))
    table.add_column("")
    for result in results:
        table.add_column(result["name"], justify="right", overflow="fold")
    if len(results) == 2:
        table.add_column("1st : 2nd", justify="right")
    for part, lines in (("inference", INFERENCE), ("training", TRAINING)):
        measured = [result.get(part) for result in results]
        if any(measured):
            table.add_row(f"[bold]{part}[/]", *(_setting(one) for one in measured))
            for title, figure, form in lines:
                table.add_row(title, *_cells(measured, figure, form))
            table.add_section()
    return table


def _cells(measured: list[dict | None], figure: Callable[[dict], float], form: Callable[[float], str]) -> list[str]:
    values = [figure(one) if one and "mean_ms" in one else None for one in measured]
    cells = [_missing(one) if value is None else form(value) for one, value in zip(measured, values, strict=True)]
    if len(values) == 2:
        first, second = values
        cells.append(f"{first / second:.2f}" if first and second else "")
    return cells


def _missing(one: dict | None) -> str:
    return "[red]out of memory[/]" if one and "out_of_memory" in one else ""


def _setting(one: dict | None) -> str:
    if not one:
        return ""
    height, width = one.get("crop") or one["size"]
    return f"{one['batch']} x {height}x{width}, {one['precision']}"


def _caption(record: dict) -> str:
    """What the memory is of, what a matrix product reaches (the same of all results, or nearly), and a warning."""
    parts = [one[part] for one in record["results"] for part in ("inference", "training") if part in one]
    measured = [one for one in parts if "mean_ms" in one]
    said = [f"Memory: {one['memory']}." for one in measured[:1]]
    peaks = [(one["share_is_of"], one["peak_gflops_per_second"]) for one in measured if "share_is_of" in one]
    said += [f"Peak: matrix products of {used}, {peak[used]:,.1f} GFLOP/s." for used, peak in peaks[:1]]
    if measured:
        said.append(busy_warning(min(one["cores_busy"] for one in measured), record))
    return " ".join(said)
