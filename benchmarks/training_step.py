"""Compare time and memory of a training step with mmsegmentation's, with the same weights; and measure data loading.

Run in the comparison environment (benchmarks/README.md), on an idle machine:

    python benchmarks/training_step.py

Writes benchmarks/results/training_step_cpu.json after each network, and the table of benchmarks/README.md. Exits with 1
if a target is missed or a side failed.
"""

import argparse
import os
import tempfile
from pathlib import Path
from time import monotonic, perf_counter

import torch

from fastfcn import build, recipes
from fastfcn.bench.record import rounded
from fastfcn.data.sampler import SampleKey
from fastfcn.recipes.inference import image_size
from fastfcn.utils.files import write_text
from parity.record import circumstances, table, write
from speed_peers import measure
from speed_peers.comparisons import Comparison, OpenMMLab, Variant
from speed_peers.environment import Environment

ROOT = Path(__file__).parents[1]
README = ROOT / "benchmarks" / "README.md"
MARKS = "<!-- training_step -->\n", "<!-- end training_step -->"
NETWORKS = [(head, classes) for classes in (19, 150) for head in ("psp", "aspp", "enc")]
# Minimum of (their time / our time), maximum of (our memory growth / theirs).
BOUNDS = {(head, classes): (1.6, 0.55) if head == "enc" else (1.2, 0.75) for head, classes in NETWORKS}
LOADER_RECIPE, LOADED = "fastfcn_r50_psp_camvid", 100
THEIRS, OURS = "mmsegmentation", "fastfcn"


def arguments() -> argparse.Namespace:
    shared = ROOT.parent / "shared" / "data"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", metavar="HEAD_CLASSES", help="networks such as psp_19; results are not written"
    )
    parser.add_argument(
        "--size", type=image_size, default=(256, 512), metavar="HxW", help="crop size; only the default is written"
    )
    parser.add_argument("--batch", type=int, default=2, help="batch size")
    parser.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU threads (default: all cores)"
    )
    parser.add_argument("--seconds", type=float, default=180.0, help="approximate duration for each network")
    parser.add_argument("--images", type=Path, default=shared / "samples", help="folder with images")
    parser.add_argument("--camvid", type=Path, default=shared / "camvid", help="folder of CamVid")
    return parser.parse_args()


def comparison(head: str, classes: int, size: tuple[int, int], batch: int) -> Comparison:
    """Interleaved steps of both sides in float32."""
    network = OpenMMLab(head, classes)
    variants = tuple(Variant(name, f"{name}_training", network) for name in (THEIRS, OURS))
    return Comparison(f"{head}_{classes}", size, variants, batch)


def compared(rows: list[dict], bounds: tuple[float, float]) -> dict:
    """Results of both sides, their ratios, and the missed targets."""
    sides = {row["variant"]: row for row in rows}
    result: dict = {"sides": rounded(sides)}
    if any("failed" in row for row in rows):
        return result | {"missed": [f"{row['variant']}: {row['failed']}" for row in rows if "failed" in row]}
    theirs, ours = sides[THEIRS], sides[OURS]
    faster = theirs["median_ms"] / ours["median_ms"]
    growth = ours["growth_mib"] / theirs["growth_mib"]
    missed = [f"{faster:.2f} times as fast, target {bounds[0]}"] * (faster < bounds[0])
    missed += [f"{growth:.2f} of the memory, target {bounds[1]}"] * (growth > bounds[1])
    return result | {"times_as_fast": rounded(faster), "growth_ratio": rounded(growth), "missed": missed}


def loading(folder: Path) -> dict:
    """Images per second that one process reads, decodes and augments, for the first of CamVid's training images."""
    recipe = recipes.load(LOADER_RECIPE)
    examples = build.dataset(recipe, build.description(recipe), folder, recipe.data.train_split, train=True)
    keys = [SampleKey(0, slot, slot, recipe.seed) for slot in range(min(LOADED, len(examples)))]
    examples[keys[0]]
    start = perf_counter()
    for key in keys:
        examples[key]
    settings = {"recipe": recipe.name, "images": len(keys), "crop": list(recipe.data.crop)}
    return settings | {"images_per_second": rounded(len(keys) / (perf_counter() - start))}


def lines(result: dict) -> list[str]:
    """The table of benchmarks/README.md."""
    rows = []
    for name, network in result["networks"].items():
        sides = [network["sides"][side] for side in (THEIRS, OURS)]
        if any("failed" in side for side in sides):
            rows.append([name, *[""] * 6, "; ".join(network["missed"])])
            continue
        times, growths = ([f"{side[key]:.0f}" for side in sides] for key in ("median_ms", "growth_mib"))
        ratios = f"{network['times_as_fast']:.2f}", f"{network['growth_ratio']:.2f}"
        rows.append([name, *times, ratios[0], *growths, ratios[1], "; ".join(network["missed"]) or "met"])
    machine, setting, loaded = result["machine"], result["setting"], result["loading"]
    processor = f"{machine['processor']}, {machine['threads']} thread(s), torch {result['versions']['torch']}"
    size = "x".join(map(str, setting["size"]))
    header = ["network", "their ms", "our ms", "speedup", "their MiB", "our MiB", "relative memory", "targets"]
    loading_speed = f"One process loads {loaded['images_per_second']:.0f} CamVid images a second." if loaded else ""
    return [
        f"{result['date']}, {processor}, float32, batch {setting['batch']} of {size}. {loading_speed}".strip(),
        "",
        *table(header, rows),
    ]


def with_table(text: str, result: dict) -> str:
    """`text` of the README with the table between its markers."""
    before, rest = text.split(MARKS[0])
    return before + MARKS[0] + "\n".join(lines(result)) + "\n" + MARKS[1] + rest.split(MARKS[1])[1]


def main() -> None:
    args, start = arguments(), monotonic()
    torch.set_num_threads(args.threads)
    networks = [network for network in NETWORKS if not args.only or "{}_{}".format(*network) in args.only]
    full_run = networks == NETWORKS and (args.size, args.batch) == ((256, 512), 2)
    loaded = loading(args.camvid) if args.camvid.is_dir() else None
    print("loading:", loaded, flush=True)
    results: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = Environment(Path(folder), "cpu", args.threads)
        for head, classes in networks:
            steps = comparison(head, classes, args.size, args.batch)
            rows = measure.run(steps, environment, args.images, args.seconds, launches=1, peaks={})
            results[steps.name] = compared(rows, BOUNDS[head, classes])
            print(steps.name, {key: value for key, value in results[steps.name].items() if key != "sides"}, flush=True)
            setting = {"size": args.size, "batch": args.batch, "seconds": args.seconds}
            result = circumstances(monotonic() - start) | {"setting": setting, "loading": loaded, "networks": results}
            if full_run:
                write("training_step_cpu", result)
    print("\n".join(lines(result)))
    if full_run:
        write_text(README, with_table(README.read_text(encoding="utf-8"), result))
    missed = [f"{name}: {line}" for name, network in results.items() for line in network["missed"]]
    raise SystemExit("\n".join(missed) or 0)


if __name__ == "__main__":
    main()
