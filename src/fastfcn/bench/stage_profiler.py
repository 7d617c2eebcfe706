"""Time and memory of each stage of a network, from a uint8 image to its segmentation map."""

from collections.abc import Sequence
from math import ceil
from statistics import median
from time import perf_counter, process_time

import numpy as np
import torch

from fastfcn import build
from fastfcn.bench import stages, timing
from fastfcn.bench.measure import Settings, full_size_predictor, out_of_memory, random_image
from fastfcn.bench.memory import MIB
from fastfcn.bench.record import machine_info
from fastfcn.errors import UserError
from fastfcn.fast.cuda_graphs import GPUSegmenter
from fastfcn.recipes.recipe import Recipe

MOST_RUNS = 100


class StageProfiler:
    """Runs one network at one image size and collects the time and memory of each pass.

    `total_ms`: milliseconds of each pass without stage callbacks; by stage: `stage_ms`, `output_bytes` and, on a GPU,
    `memory_growth` in bytes.
    """

    def __init__(self, recipe: Recipe, size: tuple[int, int], settings: Settings):
        torch.manual_seed(recipe.seed)
        description = build.description(recipe)
        self._predictor = full_size_predictor(build.create(recipe), description, recipe, settings)
        self._image = random_image(recipe, size)
        self.device, self.precision = self._predictor.device, self._predictor.precision
        self.network = self._predictor.network
        if isinstance(self.network, GPUSegmenter):
            self.network.graphs = None  # replaying a CUDA graph runs no hooks
        self.total_ms: list[float] = []
        self.stage_ms: dict[str, list[float]] = {}
        self.output_bytes: dict[str, int] = {}
        self.memory_growth: dict[str, int] = {}

    def run(self) -> np.ndarray:
        """Run one pass; returns the segmentation map."""
        return self._predictor(self._image).labels

    def time_total(self) -> float:
        """Time one pass; returns seconds."""
        timing.synchronize(self.device)
        start = perf_counter()
        self.run()
        seconds = perf_counter() - start
        self.total_ms.append(1000 * seconds)
        return seconds

    def time_stages(self) -> None:
        """Time each stage of one pass; the device is synchronized at the end of each stage."""
        last = 0.0

        def end_stage(stage: str, _: object) -> None:
            nonlocal last
            timing.synchronize(self.device)
            self.stage_ms.setdefault(stage, []).append(1000 * (perf_counter() - last))
            last = perf_counter()

        with stages.stage_callbacks(self.network, end_stage):
            timing.synchronize(self.device)
            last = perf_counter()
            end_stage(stages.LABELS, self.run())

    def measure_memory(self) -> None:
        """Measure the output size of each stage and, on a GPU, the growth of memory within it."""
        on_gpu = self.device.type == "cuda"
        start = torch.cuda.memory_allocated(self.device) if on_gpu else 0

        def end_stage(stage: str, output: object) -> None:
            nonlocal start
            self.output_bytes[stage] = stages.output_bytes(output)
            if on_gpu:
                self.memory_growth[stage] = torch.cuda.max_memory_allocated(self.device) - start
                torch.cuda.reset_peak_memory_stats(self.device)
                start = torch.cuda.memory_allocated(self.device)

        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        with stages.stage_callbacks(self.network, end_stage):
            end_stage(stages.LABELS, self.run())


def profile_networks(
    recipes: Sequence[Recipe], size: tuple[int, int], settings: Settings, progress: timing.Progress
) -> dict:
    """Machine, versions and the costs of each stage of each network; passes of the networks are interleaved.

    `settings.runs`: passes per network (default: as many as all networks complete in ten seconds). Raises UserError if
    memory is too small.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        profilers = [StageProfiler(recipe, size, settings) for recipe in recipes]
        cores = _run(profilers, settings.runs, progress)
    except (RuntimeError, MemoryError) as error:
        reason = out_of_memory(error)["out_of_memory"]
        height, width = size
        raise UserError(f"Out of memory at {height}x{width} pixels: {reason}", "Lower --size.") from error
    results = [_costs(recipe, size, profiler) for recipe, profiler in zip(recipes, profilers, strict=True)]
    used = {"precision": profilers[0].precision, "cores_busy": cores}
    return machine_info(profilers[0].device) | used | {"networks": results}


def _run(profilers: Sequence[StageProfiler], runs: int | None, progress: timing.Progress) -> float:
    """Run all `profilers`; returns the average number of busy CPU cores."""
    round_seconds = 0.0
    for profiler in profilers:
        profiler.measure_memory()
        start = perf_counter()
        while perf_counter() - start < timing.WARM_SECONDS / len(profilers):
            profiler.run()
        round_seconds += 2 * profiler.time_total()
        profiler.total_ms.clear()
    default_runs = min(max(ceil(timing.AIM_SECONDS / round_seconds), timing.LEAST_RUNS), MOST_RUNS)
    start, cpu_start = perf_counter(), process_time()
    for done in range(total := runs or default_runs):
        progress(done, total)
        for profiler in profilers:
            profiler.time_stages()
            profiler.time_total()
    progress(total, total)
    return (process_time() - cpu_start) / (perf_counter() - start)


def _costs(recipe: Recipe, size: tuple[int, int], profiler: StageProfiler) -> dict:
    """The record of one network: its costs in total and by stage."""
    with torch.device("meta"):
        plain = build.create(recipe).eval()
    flops, sizes = stages.count_stages(plain, size), stages.sum_by_stage(plain, stages.parameters)
    weight_bytes = stages.sum_by_stage(profiler.network, stages.weight_bytes)
    rows = []
    for stage, milliseconds in profiler.stage_ms.items():
        row = {
            "stage": stage,
            "parameters": sizes.get(stage, 0),
            "gflops": flops[stage] / 1e9,
            "ms": median(milliseconds),
            "output_mib": profiler.output_bytes[stage] / MIB,
            "weights_mib": weight_bytes.get(stage, 0) / MIB,
        }
        growth = profiler.memory_growth
        rows.append(row | ({"peak_growth_mib": growth[stage] / MIB} if growth else {}))
    kinds = {"backbone": recipe.backbone.name, "neck": recipe.neck.kind, "head": recipe.head.kind}
    fused = getattr(profiler.network.neck, "following", None) is not None
    total = {"ms_unmarked": median(profiler.total_ms), "runs": len(profiler.total_ms), "neck_runs_heads_1x1": fused}
    return {"name": recipe.name} | kinds | total | {"stages": rows}
