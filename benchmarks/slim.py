"""Compare the slim family with its dilated baselines: the same training on CamVid, then scores and speed.

    python benchmarks/slim.py --data CamVid
    python benchmarks/slim.py fastfcn_r50_jpu_m_camvid dilated_r50_enc_camvid --data CamVid --change data.flip=false
    python benchmarks/slim.py --table

Trains each recipe for --steps steps on the same crops, one after the other. The last weights are evaluated on val in
float32, and timed from a uint8 image to its segmentation map with the predictor of `fastfcn.load`. Run the same command
to resume. Writes benchmarks/results/NAME.json (--name, which begins with slim_camvid) after each recipe, and the table
of docs/slim.md from all such files.
"""

import argparse
import json
import shlex
from datetime import UTC, datetime
from pathlib import Path

from bench_all import ATTEMPTS, disturbed
from fastfcn import recipes
from fastfcn.bench.bench import bench
from fastfcn.bench.measure import Settings
from fastfcn.evaluation.evaluate import evaluate
from fastfcn.recipes.inference import image_size
from fastfcn.recipes.recipe import Recipe
from fastfcn.training.run import Run
from fastfcn.training.train import train
from fastfcn.utils.files import write_text
from fastfcn.utils.machine import Machine
from markdown_tables import with_tables

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENT = ROOT / "docs" / "slim.md"
SCRIPT = "python benchmarks/slim.py"
PAIR = ["fastfcn_r18_jpu_m_camvid", "dilated_r18_enc_camvid"]
SIZES = [(360, 480), (512, 1024)]
KEPT = ("images_per_second", "p50_ms", "p95_ms", "cores_busy", "gflops", "peak_memory_mib", "runs")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="RECIPE",
        default=PAIR,
        help="recipes (default: a ResNet-18 and its dilated baseline)",
    )
    parser.add_argument("--data", type=Path, help="CamVid's folder")
    parser.add_argument("--steps", type=int, default=300, help="training steps")
    parser.add_argument("--crop", type=image_size, default=(240, 320), metavar="HxW", help="training crop")
    parser.add_argument(
        "--change", action="append", default=[], metavar="KEY=VALUE", help="override in every recipe; repeatable"
    )
    parser.add_argument(
        "--precision", choices=("32-true", "bf16-mixed"), default="bf16-mixed", help="precision of training"
    )
    parser.add_argument(
        "--speed-precision", choices=("32-true", "bf16-mixed"), default="32-true", help="precision of timing"
    )
    parser.add_argument(
        "--size", type=image_size, action="append", metavar="HxW", help="image size for timing; repeatable"
    )
    parser.add_argument("--repeats", type=int, help="timed images (default: about ten seconds)")
    parser.add_argument("--accelerator", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="device type")
    parser.add_argument("--workers", type=int, default=1, help="dataloader workers")
    parser.add_argument("--runs", type=Path, default=Path("runs/slim"), help="folder of the training runs")
    parser.add_argument("--name", default="slim_camvid", help="name of the result file, without .json")
    parser.add_argument("--table", action="store_true", help="only write the table from result files")
    args = parser.parse_args(argv)
    if not args.name.startswith("slim_camvid"):
        parser.error("--name must begin with slim_camvid")
    if not (args.data or args.table):
        parser.error("--data is required: CamVid's folder")
    return args


def changed(name: str, args: argparse.Namespace) -> Recipe:
    """The recipe with the changes of this benchmark."""
    changes = [f"optim.steps={args.steps}", f"eval.every={args.steps}", f"data.crop={list(args.crop)}"]
    return recipes.load(name, [*changes, *args.change])


def trained(recipe: Recipe, args: argparse.Namespace) -> Run:
    """The finished run of a recipe, trained or resumed here."""
    run = Run(args.runs / recipe.name)
    machine = Machine(args.accelerator, workers=args.workers, precision=args.precision)
    result = train(recipe, args.data, run.folder, machine, resume=run.recipe.exists())
    if not result.finished:
        raise SystemExit(f"{recipe.name}: stopped after step {result.step} of {result.steps}; run the command again.")
    return run


def scored(run: Run, args: argparse.Namespace) -> dict:
    """Scores of the run's last weights; stored in the run folder, so that they are computed once."""
    path = run.folder / "scores.json"
    if not path.exists():
        machine = Machine(args.accelerator, workers=args.workers)
        write_text(path, json.dumps(evaluate(run.last, args.data, machine).as_json(), indent=1) + "\n")
    return json.loads(path.read_text(encoding="utf-8"))


def timed(run: Run, size: tuple[int, int], args: argparse.Namespace) -> tuple[dict, dict]:
    """Speed at one size, measured again if the machine was busy; and machine and versions."""
    settings = Settings(size, args.repeats, None, args.speed_precision, args.accelerator)
    for attempt in range(1, ATTEMPTS + 1):
        record = bench([str(run.last)], [], settings, ["inference"])
        result = record["results"][0]["inference"]
        busy = bool(disturbed({"machine": record["machine"], "results": [{"inference": result, "training": {}}]}))
        if not busy or args.repeats:
            break
        print(f"{run.folder.name} at {size[0]}x{size[1]}: attempt {attempt}: the machine was busy", flush=True)
    speed = {key: result[key] for key in KEPT if key in result} | {"disturbed": busy, "attempts": attempt}
    common = {key: record[key] for key in ("machine", "versions")} | {"parameters": result["parameters"]}
    return speed, common


def measure(args: argparse.Namespace) -> None:
    """Train and evaluate all recipes, then time them at each size; the file is written after each."""
    recipes = [changed(name, args) for name in args.names]  # checks all names before training
    first = recipes[0]
    record: dict = {"date": datetime.now(UTC).strftime("%Y-%m-%d"), "command": command(args)}
    record |= {"steps": args.steps, "batch": first.optim.batch, "crop": list(args.crop)}
    record |= {"precision": args.precision, "speed_precision": args.speed_precision}
    record["pretrained"] = Path(first.backbone.pretrained).name
    record["results"] = {}
    runs = {}
    for recipe in recipes:
        runs[recipe.name] = trained(recipe, args)
        record["results"][recipe.name] = {"scores": scored(runs[recipe.name], args), "speed": {}}
        write(args.name, record)
    for size in args.size or SIZES:
        for name, run in runs.items():
            speed, common = timed(run, size, args)
            record["results"][name]["speed"]["{}x{}".format(*size)] = speed
            record["results"][name] |= {"parameters": common.pop("parameters")}
            record |= common
            write(args.name, record)


def command(args: argparse.Namespace) -> str:
    """The command line, with paths shortened to names."""
    names = [Path(name).name for name in args.names]
    words = ["python", "benchmarks/slim.py", *names, "--data", "CamVid", "--steps", str(args.steps)]
    words += ["--crop", "{}x{}".format(*args.crop), "--precision", args.precision]
    for change in args.change:
        key, _, value = change.partition("=")
        words += ["--change", f"{key}={Path(value).name if key == 'backbone.pretrained' else value}"]
    return shlex.join(words)


def write(name: str, record: dict) -> None:
    write_text(RESULTS / f"{name}.json", json.dumps(record, indent=1) + "\n")


def tables() -> str:
    """The tables of docs/slim.md, from all result files."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("slim_camvid*.json"))]
    return "\n\n".join(map(table, records)) or "No results yet."


def table(record: dict) -> str:
    """A description, and one row per recipe, compared with the last one."""
    *_, last = record["results"].values()
    sizes = list(last["speed"])
    head = ["recipe", "mIoU", "pixel accuracy", "million parameters"]
    head += [f"{title} {size}" for size in sizes for title in ("GFLOP", "images/s")]
    lines = [sentence(record), "", f"| {' | '.join(head)} |", "|---|" + "--:|" * (len(head) - 1)]
    for name, result in record["results"].items():
        cells = [f"`{name}`", f"{result['scores']['miou']:.2f}", f"{result['scores']['pixel_accuracy']:.2f}"]
        cells.append(f"{result['parameters'] / 1e6:.1f}" if "parameters" in result else "")
        for size in sizes:
            speed, baseline = result["speed"][size], last["speed"][size]
            times = speed["images_per_second"] / baseline["images_per_second"]
            cells += [f"{speed['gflops']:.1f}", f"{speed['images_per_second']:.3g} ({times:.2f}x)"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def sentence(record: dict) -> str:
    """How a table was measured."""
    crop = "{}x{}".format(*record["crop"])
    weights = {"none": "random weights", "imagenet": "timm's ImageNet weights"}.get(
        record["pretrained"], f"the ImageNet weights of `{record['pretrained']}`"
    )
    text = f"{record['steps']} steps of {record['batch']} crops of {crop} at {record['precision']}, from {weights}; "
    text += "scores on full-size val images in float32"
    if "machine" in record:
        machine = record["machine"]
        device = machine["gpu"] or f"{machine['processor']}, {machine['threads']} threads"
        text += f"; speed at {record['speed_precision']} on {device}, in parentheses relative to the last row"
    busy = any(size["disturbed"] for result in record["results"].values() for size in result["speed"].values())
    text += "; the machine was busy during timing" if busy else ""
    return f"{text}. `{record['command']}`, {record['date']}."


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    if not args.table:
        measure(args)
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text(encoding="utf-8"), SCRIPT, tables()), encoding="utf-8")
    print(tables())


if __name__ == "__main__":
    main()
