"""What `fastfcn profile` measured as a table: a line for each stage, JPU and its dilated twin side by side."""

from collections.abc import Callable

from rich import box
from rich.table import Table

from fastfcn.bench.record import busy_warning, machine_name
from fastfcn.bench.stages import CLASS_MAP, HEAD, IMAGE, NECK

Column = tuple[str, Callable[[dict], float], Callable[[float], str]]  # title, figure, how it is written

COLUMNS: tuple[Column, ...] = (
    ("M param.", lambda one: one["parameters"] / 1e6, lambda x: f"{x:.2f}"),
    ("GFLOP", lambda one: one["gflops"], lambda x: f"{x:.1f}" if x >= 10 else f"{x:.2f}"),
    ("ms", lambda one: one["ms"], lambda x: f"{x:.3g}" if x < 100 else f"{x:.0f}"),
    ("MiB", lambda one: one["weights_mib"] + one["output_mib"], lambda x: f"{x:.1f}"),
)
GROWTH: Column = ("peak MiB", lambda one: one["peak_growth_mib"], lambda x: f"{x:.1f}")
TITLES = {IMAGE: "image, normalised", CLASS_MAP: "upsample + argmax"}
NOTES = {
    "stages": "each holds all that happens between the one before it and its own end, as inference runs it: a uint8 "
    "image in, a class map out",
    "parameters": "of the network as it is trained, without the auxiliary head",
    "gflops": "2 per multiply-add; convolutions and matrix products of the plain network",
    "ms": "median of the passes; at the end of each stage the device finishes what it was given",
    "ms_unmarked": "median of passes without such stops, taken in turns with them",
    "neck_runs_heads_1x1": "the head's first 1x1 convolution is run with the neck, and counts to its ms and weights",
    "cores_busy": "processors kept busy on average; less than the threads where the machine had other work",
    "weights_mib": "parameters and buffers as inference holds them; 2**20 bytes",
    "output_mib": "what a stage hands on to the next, not what it needs in between",
    "peak_growth_mib": "on a GPU: the most memory that tensors held within the stage, over what they held before it",
}


def stage_table(record: dict) -> Table:
    """The figures of one network, or of two beside each other."""
    networks = record["networks"]
    table = Table(box=box.SIMPLE_HEAD, title=_title(record), caption=_caption(record), padding=(0, 1, 0, 0))
    table.title_justify = table.caption_justify = "left"
    table.pad_edge = False
    table.add_column("stage", no_wrap=True)
    columns = columns_of(record)
    for kind in kinds(record):
        for index, (title, _, _) in enumerate(columns):
            group = f"[bold]{kind}[/]" if index == 0 else ""
            table.add_column(f"{group}\n{title}" if len(networks) > 1 else title, justify="right", no_wrap=True)
    for stage in stage_order(record):
        table.add_row(stage_title(stage, networks[0]), *_cells(record, lambda one, stage=stage: one.get(stage)))
    table.add_section()
    table.add_row("[bold]all[/]", *_cells(record, _sums))
    return table


def columns_of(record: dict) -> tuple[Column, ...]:
    """The figures that there are: growth of memory on a GPU only."""
    return COLUMNS + ((GROWTH,) if "peak_growth_mib" in record["networks"][0]["stages"][0] else ())


def stage_order(record: dict) -> list[str]:
    """All stages in their order; of two networks the first has them all."""
    return [one["stage"] for one in record["networks"][0]["stages"]]


def stage_title(stage: str, network: dict) -> str:
    """How a stage is called for the reader."""
    kind = {NECK: network["neck"], HEAD: network["head"]}.get(stage)
    return f"{stage} ({kind.upper()})" if kind else TITLES.get(stage, stage)


def kinds(record: dict) -> list[str]:
    """What tells the networks apart in few letters."""
    return ["dilated" if one["neck"] == "none" else one["neck"].upper() for one in record["networks"]]


def _cells(record: dict, chosen: Callable[[dict], dict | None]) -> list[str]:
    """The figures of one line; `chosen` takes them from a network's stages by name."""
    cells = []
    for network in record["networks"]:
        figures = chosen({one["stage"]: one for one in network["stages"]})
        cells += [form(figure(figures)) if figures else "" for _, figure, form in columns_of(record)]
    return cells


def _sums(stages: dict) -> dict:
    first, *rest = stages.values()
    sums = {name: value for name, value in first.items() if name != "stage"}
    for one in rest:
        # Growth does not add up: a stage starts where the one before it has freed what it no longer needs.
        sums = {name: max(value, one[name]) if "peak" in name else value + one[name] for name, value in sums.items()}
    return sums


def _title(record: dict) -> str:
    names = [f"{kind}: {one['name']}" for kind, one in zip(kinds(record), record["networks"], strict=True)]
    height, width = record["size"]
    return "\n".join([*names, f"{height}x{width}, {record['precision']}, {machine_name(record)}"])


def _caption(record: dict) -> str:
    unmarked = ", ".join(f"{one['ms_unmarked']:.4g}" for one in record["networks"])
    runs = record["networks"][0]["runs"]
    peak = " Peak: growth of tensors within a stage at its highest." if GROWTH in columns_of(record) else ""
    together = any(one.get("neck_runs_heads_1x1") for one in record["networks"])
    joined = " The head's first 1x1 convolution is run with the neck, and counts to its ms." if together else ""
    return (
        f"ms: median of {runs} pass(es) that stop after each stage; without stops: {unmarked} ms in all. "
        f"MiB: weights as inference holds them, and what a stage hands on.{peak}{joined} "
        + busy_warning(record["cores_busy"], record)
    )
