"""What keeps within a time budget, as a table: the best first, and which figures are measured."""

from rich import box
from rich.table import Table

from fastfcn.bench.record import machine_name

ROWS = 20  # that a table shows; all are in the JSON
QUICKEST = 3  # shown where nothing keeps within the budget

NOTES = {
    "order": "best first: the largest image, then the largest backbone, then JPU as wide as in the recipe (512 for the "
    "published ones), then the quickest; how far a narrower JPU costs mIoU is not known before it is trained",
    "recipes": "that have this network; their steps and batches do not matter here",
    "width": "of JPU; neck.width=WIDTH after the recipe's name makes the network",
    "gflops": "2 per multiply-add; convolutions and matrix products",
    "ms": "of an image, from uint8 pixels to the class map, one at a time, random weights; null: too little memory",
    "figure": "measured: the median of three passes or more of this very network at this size. estimated: its "
    "arithmetic at the speed at which the stages of one network were measured, corrected by what was measured of "
    "networks with the same backbone and kind of head",
    "cores_busy": "processors kept busy while the stages of that network were measured",
    "published_miou": "in percent, on the recipe's own data and at its own test size, not at this one",
}


def budget_table(record: dict) -> Table:
    """The candidates that fit, or the quickest where none does."""
    fitting = [one for one in record["candidates"] if one["fits"]]
    timed = [one for one in record["candidates"] if one["ms"] is not None]
    shown = fitting[:ROWS] or sorted(timed, key=lambda one: one["ms"])[:QUICKEST]
    table = Table(box=box.SIMPLE_HEAD, title=_title(record, fitting), caption=_caption(fitting), padding=(0, 1, 0, 0))
    table.title_justify = table.caption_justify = "left"
    table.pad_edge = False
    for title in ("recipe", "JPU", "size", "GFLOP", "ms", "", "mIoU"):
        justify = "left" if title in ("recipe", "") else "right"
        table.add_column(title, justify=justify, no_wrap=title != "recipe", overflow="fold")
    for one in shown:
        table.add_row(*_cells(one))
    return table


def _cells(one: dict) -> tuple[str, ...]:
    neck = str({"jpu": one["width"], "none": "dilated"}.get(one["neck"], one["neck"]))
    size, miou = "x".join(map(str, one["size"])), one["published_miou"]
    time = f"{one['ms']:.3g}" if one["ms"] < 100 else f"{one['ms']:.0f}"
    dim = "" if one["figure"] == "measured" else "[dim]~ "
    scored = "" if miou is None else f"{miou:.2f}"
    figures = f"{one['gflops']:.1f}", f"{dim}{time}", f"{dim[:5]}{one['figure']}"
    return str(one["recipes"][0]), neck, size, *figures, scored


def _title(record: dict, fitting: list[dict]) -> str:
    found = f"{len(fitting)} of {len(record['candidates'])} keep" if fitting else "Nothing keeps"
    rest = "" if fitting else "; the quickest:"
    return f"{found} within {record['budget_ms']:.4g} ms, {record['precision']}, {machine_name(record)}{rest}"


def _caption(fitting: list[dict]) -> str:
    more = f"{len(fitting) - ROWS} more are in the file of --json. " if len(fitting) > ROWS else ""
    return (
        f"{more}Best first: the largest image, then the largest backbone, then JPU as wide as in its recipe, then the "
        "quickest. JPU: neck.width. mIoU: as published, at the recipe's own size."
    )
