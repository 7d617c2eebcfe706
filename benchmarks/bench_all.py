"""Speed and memory of JPU and dilated networks, for three heads.

    python benchmarks/bench_all.py --accelerator cpu

Measures with `fastfcn bench`, each in a separate process. On a GPU the recipes are measured as they are, in float32 and
in bf16; on a CPU at smaller sizes, and up to four times if the machine was busy. Writes
benchmarks/results/bench_ACCELERATOR.json after each recipe; benchmarks/readme_table.py creates tables from it.
"""

import argparse
import json
from pathlib import Path

from fastfcn.bench.bench import bench
from fastfcn.bench.measure import Settings
from fastfcn.cli.tables.bench import bench_table
from fastfcn.utils.console import SafeConsole
from fastfcn.utils.files import write_text

RESULTS = Path(__file__).parent / "results"
NAMES = [f"{kind}_r50_{head}_cityscapes_80k_b8" for head in ("psp", "aspp", "enc") for kind in ("fastfcn", "dilated")]
CPU_SIZE, CPU_CROP, CPU_BATCH = (512, 1024), (256, 512), 2
REDUCED = (
    "for a CPU: inference at 512x1024 instead of the recipes' 1024x2048; training steps of 2 crops of 256x512 instead "
    "of 512x1024"
)
ATTEMPTS = 4
MAX_SPREAD, MIN_BUSY = 1.04, 0.9  # of an undisturbed measurement: p95 / median, and busy cores / threads


def undisturbed(name: str, accelerator: str, precision: str) -> dict:
    """The record of the first undisturbed attempt, else of the last; with the number of attempts."""
    for attempt in range(1, ATTEMPTS + 1):
        record = measure(name, accelerator, precision)
        busy_parts = disturbed(record)
        if not busy_parts:
            break
        print(f"{name}: attempt {attempt} was disturbed: {', '.join(busy_parts)}", flush=True)
    record["results"][0] |= {"attempts": attempt, "disturbed": busy_parts}
    return record


def disturbed(record: dict) -> list[str]:
    """The parts of a CPU measurement during which the machine was busy with other work."""
    machine, (result,) = record.get("machine"), record["results"]
    if not machine or machine["device"] != "cpu":
        return []
    parts = {part: result[part] for part in ("inference", "training") if "mean_ms" in result[part]}
    return [
        part
        for part, values in parts.items()
        if values["p95_ms"] > MAX_SPREAD * values["p50_ms"] or values["cores_busy"] < MIN_BUSY * machine["threads"]
    ]


def measure(name: str, accelerator: str, precision: str) -> dict:
    """The record of one recipe."""
    if accelerator == "cpu":
        settings = Settings(CPU_SIZE, None, CPU_BATCH, precision, accelerator)
        return bench([name], [f"data.crop={list(CPU_CROP)}"], settings)
    return bench([name], [], Settings(precision=precision, accelerator=accelerator))


def merged(records: list[dict], command: str, reduced: str) -> dict:
    """Merge records: common values of the first, the sum of seconds, and all results."""
    record = {"command": command} | ({"reduced": reduced} if reduced else {}) | records[0]
    record["seconds"] = sum(record["seconds"] for record in records)
    record["results"] = [result for record in records for result in record["results"]]
    return record


def main() -> None:
    """Measure, write after each recipe, and print a table of each pair at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="RECIPE", help="recipes (default: six of Cityscapes)")
    parser.add_argument("--accelerator", choices=("cpu", "cuda"), required=True, help="device type")
    args = parser.parse_args()
    command = " ".join(["python benchmarks/bench_all.py --accelerator", args.accelerator, *args.names])
    names = args.names or NAMES
    records = []
    for precision in ("32-true",) if args.accelerator == "cpu" else ("bf16-mixed", "32-true"):
        for name in names:
            records.append(undisturbed(name, args.accelerator, precision))
            record = merged(records, command, REDUCED if args.accelerator == "cpu" else "")
            write_text(RESULTS / f"bench_{args.accelerator}.json", json.dumps(record, indent=1) + "\n")
    console = SafeConsole()
    for index in range(0, len(record["results"]), 2):
        console.print(bench_table(record | {"results": record["results"][index : index + 2]}))


if __name__ == "__main__":
    main()
