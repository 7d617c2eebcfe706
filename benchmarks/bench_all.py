"""Speed and memory of the three heads, JPU beside dilated: python benchmarks/bench_all.py --accelerator cpu|cuda.

Every figure is taken by `fastfcn bench`, in a process of its own. On a GPU the recipes are measured as they are, in
float32 and in bf16; on a CPU at sizes that it manages in minutes, and again, up to four times in all, where other work
disturbed it. Writes benchmarks/results/bench_ACCELERATOR.json, after each recipe anew, from which
benchmarks/readme_table.py makes the README's columns.
"""

import argparse
import json
from pathlib import Path

from rich.console import Console

from fastfcn.bench.bench import bench
from fastfcn.bench.measure import Settings
from fastfcn.cli.tables.bench import bench_table
from fastfcn.utils.files import write_text

RESULTS = Path(__file__).parent / "results"
NAMES = [f"{kind}_r50_{head}_cityscapes_80k_b8" for head in ("psp", "aspp", "enc") for kind in ("fastfcn", "dilated")]
CPU_SIZE, CPU_CROP, CPU_BATCH = (512, 1024), (256, 512), 2
REDUCED = (
    "for a CPU: inference at 512x1024 instead of the recipes' 1024x2048; training steps of 2 crops of 256x512 instead "
    "of 512x1024"
)
ATTEMPTS = 4
STEADY, BUSY = 1.04, 0.9  # of an undisturbed measurement: most of p95 over the median, least of the threads at work


def undisturbed(name: str, accelerator: str, precision: str) -> dict:
    """The record of the first attempt that nothing disturbed, or else of the last; it says which, and what was."""
    for attempt in range(1, ATTEMPTS + 1):
        record = measure(name, accelerator, precision)
        troubled = disturbed(record)
        if not troubled:
            break
        print(f"{name}: attempt {attempt} was disturbed: {', '.join(troubled)}", flush=True)
    record["results"][0] |= {"attempts": attempt, "disturbed": troubled}
    return record


def disturbed(record: dict) -> list[str]:
    """The parts of a measurement on a CPU that other work on the machine slowed down."""
    machine, (result,) = record.get("machine"), record["results"]
    if not machine or machine["device"] != "cpu":
        return []
    parts = {part: result[part] for part in ("inference", "training") if "mean_ms" in result[part]}
    return [
        part
        for part, one in parts.items()
        if one["p95_ms"] > STEADY * one["p50_ms"] or one["cores_busy"] < BUSY * machine["threads"]
    ]


def measure(name: str, accelerator: str, precision: str) -> dict:
    """The record of one recipe."""
    if accelerator == "cpu":
        settings = Settings(CPU_SIZE, None, CPU_BATCH, precision, accelerator)
        return bench([name], [f"data.crop={list(CPU_CROP)}"], settings)
    return bench([name], [], Settings(precision=precision, accelerator=accelerator))


def merged(records: list[dict], command: str, reduced: str) -> dict:
    """One record of several: what is common to them once, their seconds and results together."""
    whole = {"command": command} | ({"reduced": reduced} if reduced else {}) | records[0]
    whole["seconds"] = sum(record["seconds"] for record in records)
    whole["results"] = [result for record in records for result in record["results"]]
    return whole


def main() -> None:
    """Measure, write after each recipe, and show each pair side by side at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="RECIPE", help="other recipes than the six of Cityscapes")
    parser.add_argument("--accelerator", choices=("cpu", "cuda"), required=True)
    chosen = parser.parse_args()
    command = " ".join(["python benchmarks/bench_all.py --accelerator", chosen.accelerator, *chosen.names])
    names = chosen.names or NAMES
    records = []
    for precision in ("32-true",) if chosen.accelerator == "cpu" else ("bf16-mixed", "32-true"):
        for name in names:
            records.append(undisturbed(name, chosen.accelerator, precision))
            whole = merged(records, command, REDUCED if chosen.accelerator == "cpu" else "")
            write_text(RESULTS / f"bench_{chosen.accelerator}.json", json.dumps(whole, indent=1) + "\n")
    console = Console()
    for index in range(0, len(whole["results"]), 2):
        console.print(bench_table(whole | {"results": whole["results"][index : index + 2]}))


if __name__ == "__main__":
    main()
