"""Calls on the clock: warm, each on its own, and on a GPU not before the device is done."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from time import perf_counter, process_time

import numpy as np
import torch

WARM_CALLS, WARM_SECONDS = 2, 1.0  # at least so many calls, and so long, before anything counts
AIM_SECONDS = 10.0  # how long all counted calls should take together
LEAST_RUNS, MOST_RUNS = 5, 1000

Progress = Callable[[int, int], None]  # (calls done, calls in all)


@dataclass(frozen=True)
class Timing:
    """`milliseconds` of each counted call, after `warmup` calls that were not counted.

    `cores`: processors that the process kept busy on average; much less than its threads where others want them too.
    """

    milliseconds: tuple[float, ...]
    warmup: int
    cores: float

    def as_json(self, images: int) -> dict:
        """Figures of calls that each work on `images` images; images per second come from the mean."""
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


def timed(
    call: Callable[[], object], device: torch.device, runs: int | None = None, progress: Progress | None = None
) -> Timing:
    """Time `call` on `device`, `runs` times or for about ten seconds (5 to 1000 times), after warming up.

    Each call ends when the device has finished its work, so none overlaps with the next.
    """
    warmup, last, began = 0, 0.0, perf_counter()
    while warmup < WARM_CALLS or perf_counter() - began < WARM_SECONDS:
        last = _seconds(call, device)
        warmup += 1
    total = runs or min(max(math.ceil(AIM_SECONDS / max(last, 1e-6)), LEAST_RUNS), MOST_RUNS)
    milliseconds: list[float] = []
    began, processor = perf_counter(), process_time()
    for done in range(total):
        if progress:
            progress(done, total)
        milliseconds.append(1000 * _seconds(call, device))
    cores = (process_time() - processor) / (perf_counter() - began)
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
    """Wait until `device` has done all that it was given."""
    match device.type:
        case "cuda":
            torch.cuda.synchronize(device)
        case "mps":
            torch.mps.synchronize()
