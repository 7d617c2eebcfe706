"""The slim family beside its dilated originals: equal steps on CamVid, then scores and speed.

    python benchmarks/slim.py --data CamVid
    python benchmarks/slim.py fastfcn_r50_jpu_m_camvid dilated_r50_enc_camvid --data CamVid \\
        --change backbone.pretrained=resnet50_imagenet_pruned_int8.npz --change backbone.style=caffe
    python benchmarks/slim.py --table

Every recipe named is trained for --steps steps on the same crops, in turn; the weights of the last step are scored on
val in float32, and timed from a uint8 image to its class map through the predictor that `fastfcn.load` gives. The same
command goes on where it was stopped. Writes benchmarks/results/NAME.json (--name, which begins with slim_camvid) after
each recipe, and the table of docs/slim.md from all such files.
"""

import argparse
import json
import shlex
from datetime import UTC, datetime
from pathlib import Path

from bench_all import ATTEMPTS, disturbed
from documents import with_tables
from fastfcn import recipes
from fastfcn.bench.bench import bench
from fastfcn.bench.measure import Settings
from fastfcn.bench.record import image_size
from fastfcn.evaluation.evaluate import evaluate
from fastfcn.recipes.recipe import Recipe
from fastfcn.training.run import Run
from fastfcn.training.train import train
from fastfcn.utils.files import write_text
from fastfcn.utils.machine import Machine

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENT = ROOT / "docs" / "slim.md"
SCRIPT = "python benchmarks/slim.py"
PAIR = ["fastfcn_r18_jpu_m_camvid", "dilated_r18_enc_camvid"]
SIZES = [(360, 480), (512, 1024)]
KEPT = ("images_per_second", "p50_ms", "p95_ms", "cores_busy", "gflops", "peak_memory_mib", "runs")


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="RECIPE", default=PAIR, help="else a ResNet-18 and its original")
    parser.add_argument("--data", type=Path, help="CamVid's folder")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--crop", type=image_size, default=(240, 320), metavar="HxW")
    parser.add_argument("--change", action="append", default=[], metavar="KEY=VALUE", help="in every recipe")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="bf16-mixed", help="of training")
    parser.add_argument("--speed-precision", choices=("32-true", "bf16-mixed"), default="32-true")
    parser.add_argument("--size", type=image_size, action="append", metavar="HxW", help="of the images on the clock")
    parser.add_argument("--repeats", type=int, help="images on the clock; about ten seconds of them if left out")
    parser.add_argument("--accelerator", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--workers", type=int, default=1, help="processes that read images")
    parser.add_argument("--runs", type=Path, default=Path("runs/slim"), help="folder of the training runs")
    parser.add_argument("--name", default="slim_camvid", help="of the file of results, without .json")
    parser.add_argument("--table", action="store_true", help="only make the table from the files of results")
    asked = parser.parse_args(given)
    if not asked.name.startswith("slim_camvid"):
        parser.error("--name has to begin with slim_camvid")
    if not (asked.data or asked.table):
        parser.error("--data is missing: CamVid's folder")
    return asked


def changed(name: str, asked: argparse.Namespace) -> Recipe:
    """The recipe as it is trained here."""
    own = [f"optim.steps={asked.steps}", f"eval.every={asked.steps}", f"data.crop={list(asked.crop)}"]
    return recipes.load(name, [*own, *asked.change])


def trained(used: Recipe, asked: argparse.Namespace) -> Run:
    """The finished run of a recipe, begun or gone on with here."""
    run = Run(asked.runs / used.name)
    machine = Machine(asked.accelerator, workers=asked.workers, precision=asked.precision)
    result = train(used, asked.data, run.folder, machine, resume=run.recipe.exists())
    if not result.finished:
        raise SystemExit(f"{used.name}: stopped after step {result.step} of {result.steps}; run the command again.")
    return run


def scored(run: Run, asked: argparse.Namespace) -> dict:
    """Scores of the run's last weights; kept beside them, so that they are measured once."""
    kept = run.folder / "scores.json"
    if not kept.exists():
        machine = Machine(asked.accelerator, workers=asked.workers)
        write_text(kept, json.dumps(evaluate(run.last, asked.data, machine).as_json(), indent=1) + "\n")
    return json.loads(kept.read_text(encoding="utf-8"))


def timed(run: Run, size: tuple[int, int], asked: argparse.Namespace) -> tuple[dict, dict]:
    """Speed at one size, measured again where other work disturbed it; and machine and versions."""
    settings = Settings(size, asked.repeats, None, asked.speed_precision, asked.accelerator)
    for attempt in range(1, ATTEMPTS + 1):
        record = bench([str(run.last)], [], settings, ["inference"])
        found = record["results"][0]["inference"]
        troubled = bool(disturbed({"machine": record["machine"], "results": [{"inference": found, "training": {}}]}))
        if not troubled or asked.repeats:
            break
        print(f"{run.folder.name} at {size[0]}x{size[1]}: attempt {attempt} was disturbed", flush=True)
    speed = {key: found[key] for key in KEPT if key in found} | {"disturbed": troubled, "attempts": attempt}
    common = {key: record[key] for key in ("machine", "versions")} | {"parameters": found["parameters"]}
    return speed, common


def measure(asked: argparse.Namespace) -> None:
    """Train and score every recipe, then time them in turn at each size; the file is written after each."""
    recipes = [changed(name, asked) for name in asked.names]  # what is wrong with the last is said before the first
    first = recipes[0]
    record: dict = {"date": datetime.now(UTC).strftime("%Y-%m-%d"), "command": command(asked)}
    record |= {"steps": asked.steps, "batch": first.optim.batch, "crop": list(asked.crop)}
    record |= {"precision": asked.precision, "speed_precision": asked.speed_precision}
    record["pretrained"] = Path(first.backbone.pretrained).name
    record["results"] = {}
    runs = {}
    for used in recipes:
        runs[used.name] = trained(used, asked)
        record["results"][used.name] = {"scores": scored(runs[used.name], asked), "speed": {}}
        write(asked.name, record)
    for size in asked.size or SIZES:
        for name, run in runs.items():
            speed, common = timed(run, size, asked)
            record["results"][name]["speed"]["{}x{}".format(*size)] = speed
            record["results"][name] |= {"parameters": common.pop("parameters")}
            record |= common
            write(asked.name, record)


def command(asked: argparse.Namespace) -> str:
    """The command line without the paths, which are of this machine."""
    names = [Path(name).name for name in asked.names]
    said = ["python", "benchmarks/slim.py", *names, "--data", "CamVid", "--steps", str(asked.steps)]
    said += ["--crop", "{}x{}".format(*asked.crop), "--precision", asked.precision]
    for change in asked.change:
        key, _, value = change.partition("=")
        said += ["--change", f"{key}={Path(value).name if key == 'backbone.pretrained' else value}"]
    return shlex.join(said)


def write(name: str, record: dict) -> None:
    write_text(RESULTS / f"{name}.json", json.dumps(record, indent=1) + "\n")


def tables() -> str:
    """What docs/slim.md shows of all files of results."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("slim_camvid*.json"))]
    return "\n\n".join(map(table, records)) or "Nothing has been measured yet."


def table(record: dict) -> str:
    """A sentence on how it was measured and a line a recipe, compared with the last one."""
    *_, last = record["results"].values()
    sizes = list(last["speed"])
    head = ["recipe", "mIoU", "pixel accuracy", "million parameters"]
    head += [f"{what} {size}" for size in sizes for what in ("GFLOP", "images/s")]
    lines = [sentence(record), "", f"| {' | '.join(head)} |", "|---|" + "--:|" * (len(head) - 1)]
    for name, each in record["results"].items():
        cells = [f"`{name}`", f"{each['scores']['miou']:.2f}", f"{each['scores']['pixel_accuracy']:.2f}"]
        cells.append(f"{each['parameters'] / 1e6:.1f}" if "parameters" in each else "")
        for size in sizes:
            one, other = each["speed"][size], last["speed"][size]
            times = one["images_per_second"] / other["images_per_second"]
            cells += [f"{one['gflops']:.1f}", f"{one['images_per_second']:.3g} ({times:.2f}x)"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def sentence(record: dict) -> str:
    """How a table was measured."""
    crop = "{}x{}".format(*record["crop"])
    begun = {"none": "random weights", "imagenet": "timm's ImageNet weights"}.get(
        record["pretrained"], f"the ImageNet weights of `{record['pretrained']}`"
    )
    text = f"{record['steps']} steps of {record['batch']} crops of {crop} at {record['precision']}, from {begun}; "
    text += "scores on the whole val images in float32"
    if "machine" in record:
        machine = record["machine"]
        device = machine["gpu"] or f"{machine['processor']}, {machine['threads']} threads"
        text += f"; speed at {record['speed_precision']} on {device}, in brackets how many times that of the last line"
    troubled = any(size["disturbed"] for each in record["results"].values() for size in each["speed"].values())
    text += "; other work disturbed the clock" if troubled else ""
    return f"{text}. `{record['command']}`, {record['date']}."


def main(given: list[str] | None = None) -> None:
    asked = arguments(given)
    if not asked.table:
        measure(asked)
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text(encoding="utf-8"), SCRIPT, tables()), encoding="utf-8")
    print(tables())


if __name__ == "__main__":
    main()
