"""Time and memory over the size of the image, classes, batch and threads: fastfcn, OpenVINO and ONNX Runtime.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --chart

Each measurement has its own process: it loads the network with random weights, calls it once, and then for some
seconds. One quantity is changed at a time. The result file is written after each measurement, and those that it has are
not repeated, so that the command can be stopped and continued. Larger images are skipped where the one before says that
they would take more than --limit seconds per image, or more than 80 % of the free memory; the file says so. --chart
draws docs/scaling.png.

OpenVINO and ONNX Runtime run the network as `fastfcn export` writes it, with their input set to one shape, which is
faster for them; OpenVINO with PERFORMANCE_HINT=LATENCY and its own choice of precision, both with as many threads as
fastfcn.
"""

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch

from fastfcn import build, recipes
from fastfcn.bench.fresh_process import in_fresh_process
from fastfcn.bench.measure import Settings, full_size_predictor
from fastfcn.bench.memory import GROWTH, peak_memory
from fastfcn.bench.record import machine_info, rounded
from fastfcn.exporting.network import trace
from fastfcn.models.segmenter import Segmenter
from fastfcn.prediction.runtimes import onnx
from fastfcn.prediction.runtimes.base import quiet_exporters
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.files import write_text
from fastfcn.utils.provenance import today
from speed_peers.runtime_loaders import onnxruntime_options, openvino_settings
from speed_peers.scaling_chart import draw

ROOT = Path(__file__).parents[1]
RESULTS, CHART = ROOT / "benchmarks/results/scaling_cpu.json", ROOT / "docs/scaling.png"
RECIPE = "fastfcn_r50_psp_cityscapes_80k_b8"
PROGRAMS = ("fastfcn", "openvino", "onnxruntime")
SIDES, CLASSES, BATCHES = (256, 512, 1024, 2048, 4096), (2, 19, 80, 150, 300), (1, 2, 4, 8, 16)
ONE_THREAD_SIDES = (256, 512, 1024)
FREE_MEMORY = 0.8  # share that a measurement may take
NOTES = {
    "ms_per_image": "median of the calls after the first one, divided by the batch; from uint8 images to labels",
    "calls": "that were timed",
    "memory_mib": GROWTH.replace("first call, without the network", "network is loaded, with the network"),
    "skipped": "why there is no measurement",
}

Call = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Point:
    """One measurement; `side` of a square image in pixels."""

    program: str
    side: int = 512
    classes: int = 19
    batch: int = 1
    threads: int = 2

    @property
    def images(self) -> np.ndarray:
        """Random images (B, H, W, 3), uint8."""
        return np.random.default_rng(0).integers(0, 256, (self.batch, self.side, self.side, 3), np.uint8)


@dataclass(frozen=True)
class Plan:
    """What all measurements share: recipe, its changes, where ONNX files are, and seconds to measure."""

    recipe: str
    changes: tuple[str, ...]
    folder: Path
    seconds: float

    def load_recipe(self) -> Recipe:
        return recipes.load(self.recipe, list(self.changes))

    def onnx_file(self, classes: int) -> Path:
        return self.folder / f"{self.recipe}_{classes}.onnx"


def main(argv: list[str] | None = None) -> None:
    options = arguments(argv)
    if options.chart:
        draw(json.loads(options.out.read_text(encoding="utf-8")), CHART)
        return
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(options.recipe, tuple(options.change), options.folder or Path(folder), options.seconds)
        measure_all(points(options), plan, options, shlex.join(["python", "benchmarks/scaling.py", *words(argv)]))


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default=RECIPE)
    parser.add_argument("--change", action="append", default=[], help="change to the recipe, as neck.width=128")
    parser.add_argument("--programs", nargs="*", default=list(PROGRAMS), choices=PROGRAMS)
    for name, values in (("sides", SIDES), ("classes", CLASSES), ("batches", BATCHES)):
        parser.add_argument(f"--{name}", type=int, nargs="*", default=list(values))
    parser.add_argument("--seconds", type=float, default=2, help="per measurement, after the first call")
    parser.add_argument("--limit", type=float, default=20, help="skip what takes more seconds per image")
    parser.add_argument("--folder", type=Path, help="keep the ONNX files here")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--chart", action="store_true", help="only draw the chart of --out")
    return parser.parse_args(argv)


def words(argv: list[str] | None) -> list[str]:
    """The arguments without folders of this machine."""
    given = sys.argv[1:] if argv is None else argv
    return [Path(word).name if Path(word).is_absolute() else word for word in given]


def points(options: argparse.Namespace) -> list[Point]:
    """All measurements, each once, small before large."""
    found: dict[Point, None] = {}
    for program in options.programs:
        one = Point(program)
        for side in options.sides:
            found[replace(one, side=side)] = None
            if side in ONE_THREAD_SIDES:
                found[replace(one, side=side, threads=1)] = None
        for classes in options.classes:
            found[replace(one, classes=classes)] = None
        for batch in options.batches:
            found[replace(one, batch=batch)] = None
    return list(found)


def measure_all(wanted: list[Point], plan: Plan, options: argparse.Namespace, command: str) -> None:
    """Measure what the result file does not have yet."""
    record = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {"rows": []}
    rows = {point_of(row): row for row in record["rows"]}
    for point in wanted:
        if point in rows:
            continue
        row = {"skipped": reason} if (reason := too_large(point, rows, options.limit)) else measured(point, plan)
        rows[point] = asdict(point) | {"date": today()} | {key: rounded(value) for key, value in row.items()}
        print(json.dumps(rows[point]), flush=True)
        record = {
            "date": today(),
            "command": command,
            **machine_info(torch.device("cpu")),
            "peers": {name: version(name) for name in options.programs if name != "fastfcn"},
            "recipe": plan.recipe,
            "notes": NOTES,
            "rows": list(rows.values()),
        }
        write_text(options.out, json.dumps(record, indent=1) + "\n")


def point_of(row: dict) -> Point:
    return Point(*(row[name] for name in Point.__dataclass_fields__))


def too_large(point: Point, rows: dict[Point, dict], limit: float) -> str:
    """Why a measurement is skipped, judging by the smaller images of the same program; or an empty string."""
    smaller = [other for other in rows if other.side < point.side and replace(other, side=point.side) == point]
    if not smaller:
        return ""
    before = max(smaller, key=lambda other: other.side)
    growth = (point.side / before.side) ** 2
    if "ms_per_image" not in rows[before]:
        return f"{before.side}x{before.side} was not measured either"
    if (seconds := rows[before]["ms_per_image"] / 1000 * growth) > limit:
        return f"{seconds:.0f} s per image expected, the limit is {limit:g} s"
    if (expected := rows[before]["memory_mib"] * growth) > FREE_MEMORY * (free := free_memory()):
        return f"{expected:.0f} MiB expected, {free:.0f} MiB are free"
    return ""


def free_memory() -> float:
    """MiB that a new process can have."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable"))


def measured(point: Point, plan: Plan) -> dict:
    """The result of a measurement in a fresh process; running out of memory is one too."""
    quiet = {"progress": lambda done, total: None}
    try:
        if point.program != "fastfcn" and not plan.onnx_file(point.classes).exists():
            in_fresh_process(export, plan, point.classes, **quiet)
        return in_fresh_process(measure, point, plan, **quiet)
    except (MemoryError, RuntimeError) as error:
        return {"skipped": str(error)}


def export(plan: Plan, classes: int, progress: object = None) -> None:
    """Write the network with so many classes as ONNX, for any size."""
    recipe = plan.load_recipe()
    with quiet_exporters():
        onnx.write(trace(network(recipe, classes), recipe, False), {}, plan.onnx_file(classes))


def network(recipe: Recipe, classes: int) -> Segmenter:
    torch.manual_seed(0)
    return build.network(recipe, classes).eval()


def measure(point: Point, plan: Plan, progress: object = None) -> dict:
    """Load the network and call it."""
    torch.set_num_threads(point.threads)
    load = {"fastfcn": load_fastfcn, "openvino": load_openvino, "onnxruntime": load_onnxruntime}[point.program]
    prepare, images = load(point, plan), point.images
    with peak_memory(torch.device("cpu")) as memory:
        call = prepare()
        labels = call(images)
        seconds = list(timed(partial(call, images), plan.seconds))
    assert labels.shape == images.shape[:3]
    result = {"ms_per_image": 1000 * median(seconds) / point.batch, "calls": len(seconds), "memory_mib": memory.mib}
    return result | {"classes_found": len(np.unique(labels))}


def timed(call: Callable[[], object], least: float) -> Iterator[float]:
    """Seconds of each call, until they add up to `least`."""
    total = 0.0
    while total < least:
        start = perf_counter()
        call()
        total += (seconds := perf_counter() - start)
        yield seconds


def load_fastfcn(point: Point, plan: Plan) -> Callable[[], Call]:
    recipe = plan.load_recipe()
    description, settings = build.description(recipe), Settings(accelerator="cpu")

    def prepare() -> Call:
        return full_size_predictor(network(recipe, point.classes), description, recipe, settings).labels

    return prepare


def load_openvino(point: Point, plan: Plan) -> Callable[[], Call]:
    import openvino

    core, settings = openvino.Core(), openvino_settings(point.threads)

    def prepare() -> Call:
        model = core.read_model(plan.onnx_file(point.classes))
        model.reshape([point.batch, point.side, point.side, 3])
        request = core.compile_model(model, "CPU", settings).create_infer_request()

        def call(images: np.ndarray) -> np.ndarray:
            request.infer([images])
            return request.get_output_tensor(0).data.copy()

        return call

    return prepare


def load_onnxruntime(point: Point, plan: Plan) -> Callable[[], Call]:
    import onnxruntime

    options = onnxruntime_options(point.threads)
    for name, size in zip(onnx.DIMENSIONS, (point.batch, point.side, point.side), strict=True):
        options.add_free_dimension_override_by_name(name, size)

    def prepare() -> Call:
        path = plan.onnx_file(point.classes)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda images: session.run(None, {"image": images})[0]  # type: ignore[return-value]

    return prepare


if __name__ == "__main__":
    main()
