"""Passes of a network on the clock, stage by stage, from a uint8 image to its class map."""

from collections.abc import Sequence
from math import ceil
from statistics import median
from time import perf_counter, process_time

import numpy as np
import torch

from fastfcn import build
from fastfcn.bench import stages, timing
from fastfcn.bench.measure import Settings, out_of_memory
from fastfcn.bench.memory import MIB
from fastfcn.bench.record import machine_facts
from fastfcn.errors import UserError
from fastfcn.fast.cuda_graphs import GPUSegmenter
from fastfcn.prediction.predictor import TorchPredictor
from fastfcn.recipes.recipe import Recipe

MOST_RUNS = 100


class Passes:
    """One network at one size. `once()` is a pass as `Predictor` makes it, `by_stage()` one that stops at each mark."""

    def __init__(self, recipe: Recipe, size: tuple[int, int], settings: Settings):
        torch.manual_seed(recipe.seed)
        about = build.description(recipe)
        self._predictor = TorchPredictor(build.create(recipe), recipe, about, settings.accelerator, settings.precision)
        self._image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        self.device = self._predictor.device
        self.network = self._predictor.network
        if isinstance(self.network, GPUSegmenter):
            self.network.graphs = None  # what is replayed passes no mark
        self.whole: list[float] = []  # milliseconds of each pass without marks
        self.milliseconds: dict[str, list[float]] = {}
        self.handed_on: dict[str, int] = {}  # bytes
        self.growth: dict[str, int] = {}  # bytes, on a GPU

    def once(self) -> np.ndarray:
        """The class map."""
        return self._predictor(self._image).labels

    def timed(self) -> float:
        """Seconds of a pass, which count."""
        timing.synchronize(self.device)
        start = perf_counter()
        self.once()
        seconds = perf_counter() - start
        self.whole.append(1000 * seconds)
        return seconds

    def by_stage(self) -> None:
        """A pass whose stages are timed one by one: at each mark the device finishes what it was given."""
        last = 0.0

        def mark(stage: str, _: object) -> None:
            nonlocal last
            timing.synchronize(self.device)
            self.milliseconds.setdefault(stage, []).append(1000 * (perf_counter() - last))
            last = perf_counter()

        with stages.marked(self.network, mark):
            timing.synchronize(self.device)
            last = perf_counter()
            mark(stages.CLASS_MAP, self.once())

    def memory(self) -> None:
        """A pass that notes what each stage hands on and, on a GPU, how far memory grows within it."""
        on_gpu = self.device.type == "cuda"
        start = torch.cuda.memory_allocated(self.device) if on_gpu else 0

        def mark(stage: str, output: object) -> None:
            nonlocal start
            self.handed_on[stage] = stages.handed_on_bytes(output)
            if on_gpu:
                self.growth[stage] = torch.cuda.max_memory_allocated(self.device) - start
                torch.cuda.reset_peak_memory_stats(self.device)
                start = torch.cuda.memory_allocated(self.device)

        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        with stages.marked(self.network, mark):
            mark(stages.CLASS_MAP, self.once())


def profile_networks(
    recipes: Sequence[Recipe], size: tuple[int, int], settings: Settings, progress: timing.Progress
) -> dict:
    """Machine, versions and what each stage of each network costs; the networks take turns, pass by pass.

    `settings.runs`: passes of each kind, else about ten seconds of all together. Raises UserError where a network
    wants more memory than there is.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        each = [Passes(recipe, size, settings) for recipe in recipes]
        cores = _run(each, settings.runs, progress)
    except (RuntimeError, MemoryError) as error:
        told = out_of_memory(error)["out_of_memory"]
        height, width = size
        raise UserError(f"There is too little memory for {height}x{width} pixels: {told}", "Lower --size.") from error
    results = [_costs(recipe, size, passes) for recipe, passes in zip(recipes, each, strict=True)]
    return machine_facts(each[0].device) | {"cores_busy": cores, "networks": results}


def _run(each: Sequence[Passes], runs: int | None, progress: timing.Progress) -> float:
    """Fill `each`; returns how many processors were kept busy on average."""
    round_seconds = 0.0
    for passes in each:
        passes.memory()
        began = perf_counter()
        while perf_counter() - began < timing.WARM_SECONDS / len(each):
            passes.once()
        round_seconds += 2 * passes.timed()
        passes.whole.clear()
    aimed = min(max(ceil(timing.AIM_SECONDS / round_seconds), timing.LEAST_RUNS), MOST_RUNS)
    began, processor = perf_counter(), process_time()
    for done in range(total := runs or aimed):
        progress(done, total)
        for passes in each:
            passes.by_stage()
            passes.timed()
    progress(total, total)
    return (process_time() - processor) / (perf_counter() - began)


def _costs(recipe: Recipe, size: tuple[int, int], passes: Passes) -> dict:
    """Costs of each stage of one network, and of the whole."""
    with torch.device("meta"):
        plain = build.create(recipe).eval()
    flops, sizes = stages.count_stages(plain, size), stages.of_stages(plain, stages.parameters)
    held = stages.of_stages(passes.network, stages.held_bytes)
    rows = []
    for stage, milliseconds in passes.milliseconds.items():
        row = {
            "stage": stage,
            "parameters": sizes.get(stage, 0),
            "gflops": flops[stage] / 1e9,
            "ms": median(milliseconds),
            "output_mib": passes.handed_on[stage] / MIB,
            "weights_mib": held.get(stage, 0) / MIB,
        }
        rows.append(row | ({"peak_growth_mib": passes.growth[stage] / MIB} if passes.growth else {}))
    kinds = {"backbone": recipe.backbone.name, "neck": recipe.neck.kind, "head": recipe.head.kind}
    joined = getattr(passes.network.neck, "following", None) is not None
    whole = {"ms_unmarked": median(passes.whole), "runs": len(passes.whole), "neck_runs_heads_1x1": joined}
    return {"name": recipe.name} | kinds | whole | {"stages": rows}
