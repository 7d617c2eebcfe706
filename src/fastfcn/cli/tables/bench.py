"""The table of `fastfcn bench`: one row per figure, one column per recipe."""

from collections.abc import Callable

from rich import box
from rich.table import Table
from rich.text import Text

from fastfcn.bench.record import machine_name
from fastfcn.utils.console import styled

BUSY = 0.85  # on an idle machine, a network keeps more than this share of its threads busy

Row = tuple[str, Callable[[dict], float], Callable[[float], str]]  # title, value, format

INFERENCE: tuple[Row, ...] = (
    ("images/s", lambda part: part["images_per_second"], lambda x: f"{x:.4g}"),
    ("median ms", lambda part: part["p50_ms"], lambda x: f"{x:.4g}"),
    ("95th percentile ms", lambda part: part["p95_ms"], lambda x: f"{x:.4g}"),
    ("peak memory MiB", lambda part: part["peak_memory_mib"], lambda x: f"{x:.0f}"),
    ("GFLOPs", lambda part: part["gflops"], lambda x: f"{x:.1f}"),
    ("share of peak", lambda part: part["share_of_peak"], lambda x: f"{x:.0%}"),
    ("parameters (M)", lambda part: part["parameters"] / 1e6, lambda x: f"{x:.2f}"),
)
TRAINING: tuple[Row, ...] = INFERENCE[:4]


def bench_table(record: dict) -> Table:
    """The results side by side; with two of them also the ratio of the first to the second."""
    results = record["results"]
    table = Table(box=box.SIMPLE_HEAD, title=machine_name(record), title_justify="left", caption=_caption(record))
    table.add_column("")
    for result in results:
        table.add_column(result["name"], justify="right", overflow="fold")
    if len(results) == 2:
        table.add_column("1st : 2nd", justify="right")
    for name, rows in (("inference", INFERENCE), ("training", TRAINING)):
        parts = [result.get(name) for result in results]
        if any(parts):
            table.add_row(styled("[bold]{}[/]", name), *(_setting(part) for part in parts))
            for title, value, text in rows:
                table.add_row(title, *_cells(parts, value, text))
            table.add_section()
    return table


def busy_warning(cores_busy: float, record: dict) -> Text:
    """A warning if other processes used the CPU during the measurement; else an empty text."""
    machine = record.get("machine")
    if not machine or machine["device"] != "cpu" or cores_busy >= BUSY * machine["threads"]:
        return Text()
    return styled(
        "[red]Only {:.1f} of {} CPU cores were available: the machine was busy.[/]", cores_busy, machine["threads"]
    )


def _cells(parts: list[dict | None], value: Callable[[dict], float], text: Callable[[float], str]) -> list[str | Text]:
    values = [value(part) if part and "mean_ms" in part else None for part in parts]
    cells: list[str | Text] = [
        _missing(part) if number is None else text(number) for part, number in zip(parts, values, strict=True)
    ]
    if len(values) == 2:
        first, second = values
        cells.append(f"{first / second:.2f}" if first and second else "")
    return cells


def _missing(part: dict | None) -> Text:
    return styled("[red]out of memory[/]") if part and "out_of_memory" in part else Text()


def _setting(part: dict | None) -> str:
    if not part:
        return ""
    height, width = part.get("crop") or part["size"]
    return f"{part['batch']} x {height}x{width}, {part['precision']}"


def _caption(record: dict) -> Text:
    """How memory was measured, the device's peak (nearly the same for all results), and the warning."""
    parts = [result[part] for result in record["results"] for part in ("inference", "training") if part in result]
    measured = [part for part in parts if "mean_ms" in part]
    sentences = [f"Memory: {part['memory']}." for part in measured[:1]]
    peaks = [(part["share_is_of"], part["peak_gflops_per_second"]) for part in measured if "share_is_of" in part]
    sentences += [f"Peak: {dtype} matrix products, {peak[dtype]:,.1f} GFLOP/s." for dtype, peak in peaks[:1]]
    warning = busy_warning(min(part["cores_busy"] for part in measured), record) if measured else Text()
    return styled("{} {}", " ".join(sentences), warning)
