"""Speed of `fastfcn check DIR` on one core and on all cores, and its memory per image.

Run on an idle machine:

    python benchmarks/check_speed.py

Generates image/mask pairs of 480x360 in a temporary folder, checks them in fresh processes, and writes
benchmarks/results/check_speed.json. Exits with 1 if a target is missed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from fastfcn.utils.files import write_text
from fastfcn.utils.progress import with_progress

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "check_speed.json"
SIZE = (360, 480)  # (height, width)
MIN_SPEED, MAX_BYTES = 150, 200  # pairs per second and core; bytes per image
# Run in a separate process with the folder, the number of threads, and whether to trace allocations (which is slow).
SCRIPT = """
import json, resource, sys, time, tracemalloc
from fastfcn.checking.check import check_folder
folder, workers, traced = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "traced"
if traced:
    tracemalloc.start()
wall, busy = time.perf_counter(), time.process_time()
result = check_folder(folder, workers, show_progress=False)
wall, busy = time.perf_counter() - wall, time.process_time() - busy
print(json.dumps({
    "pairs": result.pairs, "problems": [problem.kind for problem in result.problems], "wall_s": wall, "cpu_s": busy,
    "peak_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "peak_traced": tracemalloc.get_traced_memory()[1] if traced else None,
}))
"""


def draw(folder: Path, pairs: int) -> Path:
    """Generate different JPEG images and PNG masks with file sizes similar to CamVid's."""
    for number in with_progress(range(pairs), pairs, f"Drawing {pairs} pairs"):
        random = np.random.default_rng(number)
        split = "val" if number % 5 == 4 else "train"
        name = f"sequence{number // 100:03}_{number:06}"
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8)).resize(SIZE[::-1], 3)
        grain = random.integers(-12, 13, (*SIZE, 1), np.int16)
        image = np.clip(np.asarray(coarse, np.int16) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / "images" / split / f"{name}.jpg", quality=85)
        regions = Image.fromarray(random.integers(0, 12, (45, 60), np.uint8)).resize(SIZE[::-1], 0)
        regions.save(folder / "masks" / split / f"{name}.png")
    return folder


def run_check(folder: Path, workers: int, traced: bool = False) -> dict:
    """The output of SCRIPT in a fresh process."""
    command = [sys.executable, "-c", SCRIPT, str(folder), str(workers), "traced" if traced else "timed"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measured(few: Path, many: Path, runs: int) -> dict:
    """Speed on one thread (best of `runs`) and on all cores, and memory growth from `few` to `many` images."""
    cores = len(os.sched_getaffinity(0))
    run_check(many, cores)  # fills the system's file cache
    single = min((run_check(many, 1) for _ in range(runs)), key=lambda run: run["cpu_s"])
    all_cores = min((run_check(many, cores) for _ in range(runs)), key=lambda run: run["wall_s"])
    small, large = run_check(few, 1, traced=True), run_check(many, 1, traced=True)
    small_rss = run_check(few, 1)["peak_rss"]
    more = large["pairs"] - small["pairs"]
    return {
        "pairs": single["pairs"],
        "problems": single["problems"],
        "pairs_per_second_per_core": single["pairs"] / single["cpu_s"],
        "pairs_per_second_one_thread": single["pairs"] / single["wall_s"],
        "pairs_per_second_all_cores": all_cores["pairs"] / all_cores["wall_s"],
        "threads_all_cores": cores,
        "cpu_seconds_per_pair_all_cores": all_cores["cpu_s"] / all_cores["pairs"],
        "bytes_per_image_traced": (large["peak_traced"] - small["peak_traced"]) / more,
        "bytes_per_image_resident": (single["peak_rss"] - small_rss) / more,
        "fixed_bytes_traced": small["peak_traced"],
    }


def machine() -> dict:
    """The machine and package versions."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    versions = {"python": sys.version.split()[0], "numpy": np.__version__, "pillow": PIL.__version__}
    return {"processor": names[0] if names else "", "cores": len(os.sched_getaffinity(0)), "versions": versions}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5000, help="number of pairs; only the default is recorded")
    parser.add_argument("--runs", type=int, default=3, help="runs per measurement; the best one counts")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        few = draw(Path(folder) / "few", max(args.pairs // 5, 1))
        many = draw(Path(folder) / "many", args.pairs)
        jpeg = [path.stat().st_size for path in (few / "images").rglob("*.jpg")]
        figures = measured(few, many, args.runs) | {"mean_bytes_of_an_image_file": sum(jpeg) / len(jpeg)}
    targets = {
        f"at least {MIN_SPEED} pairs per second and core": figures["pairs_per_second_per_core"] >= MIN_SPEED,
        f"at most {MAX_BYTES} bytes per image": figures["bytes_per_image_traced"] <= MAX_BYTES,
    }
    record = {
        "command": "python benchmarks/check_speed.py",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "size": SIZE,
        "notes": {
            "per_core": "pairs divided by CPU seconds of one thread; files in the system's cache",
            "traced": "growth of the peak of Python and NumPy allocations, from a fifth of the images to all",
            "resident": "the same for the process's peak resident memory, which is allocated in larger blocks",
        },
        **{key: round(value, 6) if isinstance(value, float) else value for key, value in figures.items()},
        "bounds_held": targets,
    }
    text = json.dumps(record, indent=1) + "\n"
    print(text)
    if args.pairs == parser.get_default("pairs"):
        write_text(RESULT, text)
    return 0 if all(targets.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
