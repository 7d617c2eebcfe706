"""Timing of calls, after warm-up and with device synchronization."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from time import perf_counter, process_time

import numpy as np
import torch

WARM_CALLS, WARM_SECONDS = 2, 1.0  # minimum of warm-up
AIM_SECONDS = 10.0  # total time of the timed calls, by default
LEAST_RUNS, MOST_RUNS = 5, 1000

Progress = Callable[[int, int], None]  # (calls done, calls in total)


@dataclass(frozen=True)
class Timing:
    """`milliseconds` of each timed call, after `warmup` calls that are not included.

    `cores`: average number of busy CPU cores; far below the number of threads if other processes use the CPU.
    """

    milliseconds: tuple[float, ...]
    warmup: int
    cores: float

    def as_json(self, images: int) -> dict:
        """Statistics of calls that process `images` images each; images per second are computed from the mean."""
        mean = fmean(self.milliseconds)
        p50, p95 = np.percentile(self.milliseconds, [50, 95]).tolist()
        return {
            "runs": len(self.milliseconds),
            "warmup": self.warmup,
            "cores_busy": self.cores,
            "mean_ms": mean,
            "p50_ms": p50,
            "p95_ms": p95,
            "images_per_second": images * 1000 / mean,
        }


def time_calls(
    call: Callable[[], object], device: torch.device, runs: int | None = None, progress: Progress | None = None
) -> Timing:
    """Time `call` on `device` after warm-up, `runs` times (default: for about ten seconds, 5 to 1000 times).

    The device is synchronized after each call, so calls do not overlap.
    """
    warmup, last, start = 0, 0.0, perf_counter()
    while warmup < WARM_CALLS or perf_counter() - start < WARM_SECONDS:
        last = _seconds(call, device)
        warmup += 1
    total = runs or min(max(math.ceil(AIM_SECONDS / max(last, 1e-6)), LEAST_RUNS), MOST_RUNS)
    milliseconds: list[float] = []
    start, cpu_start = perf_counter(), process_time()
    for done in range(total):
        if progress:
            progress(done, total)
        milliseconds.append(1000 * _seconds(call, device))
    cores = (process_time() - cpu_start) / (perf_counter() - start)
    if progress:
        progress(total, total)
    return Timing(tuple(milliseconds), warmup, cores)


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    start = perf_counter()
    call()
    synchronize(device)
    return perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait until `device` has finished all its work."""
    match device.type:
        case "cuda":
            torch.cuda.synchronize(device)
        case "mps":
            torch.mps.synchronize()
