"""Writes results: a file under benchmarks/results, and a table in README.md."""

import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "benchmarks" / "results"
README = Path(__file__).with_name("README.md")
PACKAGES = ("torch", "torchvision", "timm", "numpy", "mmsegmentation", "mmengine", "mmcv-lite")


def processor() -> str:
    """The CPU's name from /proc/cpuinfo, else from Python."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def circumstances(seconds: float) -> dict:
    """Date, command, duration, machine and versions."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "command": " ".join(["python", *(sys.argv[:1] and [relative(Path(sys.argv[0]))]), *sys.argv[1:]]),
        "seconds": round(seconds),
        "machine": {"processor": processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }


def relative(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else path.name


def write(name: str, result: dict) -> None:
    """Write benchmarks/results/NAME.json."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(result, indent=1) + "\n")
    temporary.replace(path)


def put_table(name: str, lines: list[str]) -> None:
    """Replace the text between `<!-- NAME -->` and `<!-- end NAME -->` in README.md."""
    opening, closing = f"<!-- {name} -->\n", f"<!-- end {name} -->"
    before, rest = README.read_text().split(opening)
    after = rest.split(closing)[1]
    README.write_text(before + opening + "\n".join(lines) + "\n" + closing + after)


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]
