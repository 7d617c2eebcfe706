"""Run one comparison: from its processes to the rows of results."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np
import torch

from fastfcn import kernels
from fastfcn.bench.flops import device_peaks
from fastfcn.bench.fresh_process import in_fresh_process
from fastfcn.errors import UserError
from speed_peers.comparisons import SKIPPED, Comparison, Variant, missing_package
from speed_peers.environment import Environment
from speed_peers.worker import Worker, pause

LEAST_ROUNDS, MOST_ROUNDS = 3, 30

Peaks = dict[str, tuple[str, float]]  # precision of a variant -> (number format, GFLOP/s)


class VariantResults:
    """Measurements of one variant, in one or several processes; `failed` is the error message if it failed."""

    def __init__(self, variant: Variant):
        self.variant = variant
        self.worker: Worker | None = None
        self.failed = ""
        self.seconds: list[float] = []  # of each timed call
        self.cpu_seconds = 0.0  # CPU time of these calls
        self.growths: list[float] = []  # memory growth of each process, MiB
        self.memory = ""  # what was measured

    def start(self, comparison: Comparison, environment: Environment) -> None:
        """Start a process, unless an earlier one failed or its software is not installed."""
        if module := missing_package(self.variant.program):
            self.failed = f"{SKIPPED}{module} is not installed"
        if self.failed:
            return
        self.worker = Worker(self.variant, comparison, environment)

    def wait(self) -> None:
        """Wait until the process is ready."""
        if not self.worker:
            return
        try:
            self.worker.wait()
        except RuntimeError as error:
            self.fail(error)
        else:
            self.loaded, self.labels, self.first = self.worker.loaded, self.worker.labels, self.worker.first

    def fail(self, error: RuntimeError) -> None:
        self.failed = str(error)
        print(f"    {self.variant.name} failed: {error}", flush=True)
        self.close()

    def turn(self, counted: bool = True) -> float:
        """Run one turn; returns its duration in seconds."""
        if not self.worker:
            return 0.0
        pause()
        try:
            seconds, processor = self.worker.turn()
        except RuntimeError as error:
            self.fail(error)
            return 0.0
        if counted:
            self.seconds += seconds
            self.cpu_seconds += processor
        return sum(seconds)

    def finish(self) -> None:
        """Record the memory of the process."""
        if self.worker:
            growth, self.memory = self.worker.finish()
            self.growths += [] if growth is None else [growth]

    def close(self) -> None:
        if self.worker:
            self.worker.close()
        self.worker = None


def run(
    comparison: Comparison, environment: Environment, images: Path, seconds: float, launches: int, peaks: Peaks
) -> list[dict]:
    """Prepare, run interleaved turns for about `seconds` in total, and return one row per variant, in order.

    Each variant's process is started `launches` times: one process may be a few percent faster than the next.
    """
    from speed_peers.prepare import prepare  # not at the top: the variants' processes import this module

    try:
        gflops = in_fresh_process(prepare, comparison, environment, images, progress=lambda done, total: None)
    except (UserError, RuntimeError, MemoryError) as error:
        print(f"    {comparison.name} preparation failed: {error}", flush=True)
        return [row_header(comparison, variant) | {"failed": str(error)} for variant in comparison.variants]
    entries, rounds = [VariantResults(variant) for variant in comparison.variants], 0
    for _ in range(launches):
        with ExitStack() as closing:
            # Processes for a GPU load at the same time. On a CPU this would distort the time of the first call.
            groups = [entries] if environment.device == "cuda" else [[runs] for runs in entries]
            for group in groups:
                for runs in group:
                    closing.callback(runs.close)
                    runs.start(comparison, environment)
                for runs in group:
                    runs.wait()
            rounds += take_turns(entries, seconds / launches)
            for runs in entries:
                runs.finish()
    labels = {runs.variant.name: runs.labels for runs in entries if not runs.failed}
    counts = {"rounds": rounds, "launches": launches}
    rows = [row(comparison, runs, gflops, peaks, labels) | counts for runs in entries]
    medians = {row["variant"]: row["median_ms"] for row in rows if "failed" not in row}
    for row in rows:
        others = {name: other for name, other in medians.items() if name != row["variant"]}
        if "failed" not in row:
            row["times_as_fast_as"] = {name: other / row["median_ms"] for name, other in others.items()}
    return rows


def take_turns(entries: list[VariantResults], seconds: float) -> int:
    """Run a warm-up round, which estimates how many rounds fit into `seconds`, then those; returns their number."""
    duration = sum(runs.turn(counted=False) for runs in entries)
    rounds = min(max(round(seconds / max(duration, 1e-3)), LEAST_ROUNDS), MOST_ROUNDS)
    for _ in range(rounds):
        for runs in entries:
            runs.turn()
    return rounds


def row_header(comparison: Comparison, variant: Variant) -> dict:
    return {"comparison": comparison.name, "variant": variant.name, "size": list(comparison.size)}


def row(
    comparison: Comparison, runs: VariantResults, gflops: dict[str, float], peaks: Peaks, labels: dict[str, np.ndarray]
) -> dict:
    """The result of one variant."""
    variant, start = runs.variant, row_header(comparison, runs.variant)
    if runs.failed:
        return start | {"failed": runs.failed}
    median_seconds, growth = median(runs.seconds), max(runs.growths, default=None)
    result = start | {
        "precision": variant.precision,
        "images_per_second": (comparison.batch or 1) / median_seconds,
        "median_ms": 1000 * median_seconds,
        "fastest_ms": 1000 * min(runs.seconds),
        "slowest_ms": 1000 * max(runs.seconds),
        "first_ms": 1000 * runs.first,
        "calls": len(runs.seconds),
        "cores_busy": runs.cpu_seconds / sum(runs.seconds),
        "loaded_mib": runs.loaded,
        "growth_mib": growth,
        "whole_mib": runs.loaded + (growth or 0.0),
        "memory": runs.memory,
    }
    if comparison.batch:
        return result | {"batch": comparison.batch}
    used, peak = peaks[variant.precision]
    nominal = gflops[variant.network.name]
    result |= {"gflops": nominal, "share_of_peak": nominal / median_seconds / peak, "share_is_of": used}
    return result | compared(variant, labels)


def compared(variant: Variant, labels: dict[str, np.ndarray]) -> dict:
    """Number of predicted classes, and the share of labels that agree with the reference."""
    own_labels = labels[variant.name]
    result: dict = {"classes_seen": len(np.unique(own_labels))}
    if variant.reference in labels:
        result |= {"reference": variant.reference, "agreement": float((own_labels == labels[variant.reference]).mean())}
    return result


def machine_peaks(device: str, threads: int, progress: Callable[[int, int], None]) -> dict:
    """Peak speed of matrix products in float32 (or what convolutions use for it) and bf16, and whether kernels exist.

    Runs in a fresh process; builds the kernels if necessary.
    """
    torch.set_num_threads(threads)
    peaks: Peaks = {}
    for name, dtype in (("float32", None), ("bfloat16", torch.bfloat16)):
        speeds, used = device_peaks(torch.device(device), dtype)
        peaks[name] = (used, speeds[used] / 1e9)
        progress(len(peaks), 2)
    return {"peaks": peaks} | ({"kernels": kernels.available()} if device == "cpu" else {})
