"""One contest, from its processes to its rows."""

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
from speed_peers.calls import Place
from speed_peers.contests import Contest, Variant
from speed_peers.turns import Worker, rest

LEAST_ROUNDS, MOST_ROUNDS = 3, 30

Peaks = dict[str, tuple[str, float]]  # by the precision of a variant: the format that it works in, GFLOP/s


class Runs:
    """What one variant has shown, in one process or several; `failed` says why it is out of the contest."""

    def __init__(self, variant: Variant):
        self.variant = variant
        self.worker: Worker | None = None
        self.failed = ""
        self.seconds: list[float] = []  # of each counted call
        self.processor = 0.0  # the processor's seconds in them
        self.growths: list[float] = []  # of each process's memory, in MiB
        self.memory = ""  # what that is

    def start(self, contest: Contest, place: Place) -> None:
        """Start a process of its own, unless an earlier one failed."""
        if self.failed:
            return
        try:
            worker = self.worker = Worker(self.variant, contest, place)
        except RuntimeError as error:
            self.fail(error)
        else:
            self.loaded, self.labels, self.first = worker.loaded, worker.labels, worker.first

    def fail(self, error: RuntimeError) -> None:
        self.failed = str(error)
        print(f"    {self.variant.name} failed: {error}", flush=True)
        self.close()

    def turn(self, counted: bool = True) -> float:
        """One turn; returns the seconds that it took."""
        if not self.worker:
            return 0.0
        rest()
        try:
            seconds, processor = self.worker.turn()
        except RuntimeError as error:
            self.fail(error)
            return 0.0
        if counted:
            self.seconds += seconds
            self.processor += processor
        return sum(seconds)

    def finish(self) -> None:
        """Note the memory of the process."""
        if self.worker:
            growth, self.memory = self.worker.finish()
            self.growths += [] if growth is None else [growth]

    def close(self) -> None:
        if self.worker:
            self.worker.close()
        self.worker = None


def run(contest: Contest, place: Place, images: Path, seconds: float, launches: int, peaks: Peaks) -> list[dict]:
    """Prepare, take turns for about `seconds` in all, and return a row for each variant, in their order.

    The processes are started `launches` times, once at least: one may be some percent faster than the next.
    """
    from speed_peers.prepare import prepare  # not in the variants' processes, which import what this module imports

    try:
        gflops = in_fresh_process(prepare, contest, place, images, progress=lambda done, total: None)
    except (UserError, RuntimeError, MemoryError) as error:
        print(f"    {contest.name} could not be prepared: {error}", flush=True)
        return [labelled(contest, variant) | {"failed": str(error)} for variant in contest.variants]
    field, rounds = [Runs(variant) for variant in contest.variants], 0
    for _ in range(launches):
        with ExitStack() as closing:
            for runs in field:
                closing.callback(runs.close)
                runs.start(contest, place)
            rounds += take_turns(field, seconds / launches)
            for runs in field:
                runs.finish()
    labels = {runs.variant.name: runs.labels for runs in field if not runs.failed}
    noted = {"rounds": rounds, "launches": launches}
    rows = [row(contest, runs, gflops, peaks, labels) | noted for runs in field]
    medians = {each["variant"]: each["median_ms"] for each in rows if "failed" not in each}
    for each in rows:
        others = {name: other for name, other in medians.items() if name != each["variant"]}
        if "failed" not in each:
            each["times_as_fast_as"] = {name: other / each["median_ms"] for name, other in others.items()}
    return rows


def take_turns(field: list[Runs], seconds: float) -> int:
    """One round to get warm, which also says how many rounds fit into `seconds`, then those; returns how many."""
    lasted = sum(runs.turn(counted=False) for runs in field)
    rounds = min(max(round(seconds / max(lasted, 1e-3)), LEAST_ROUNDS), MOST_ROUNDS)
    for _ in range(rounds):
        for runs in field:
            runs.turn()
    return rounds


def labelled(contest: Contest, variant: Variant) -> dict:
    return {"contest": contest.name, "variant": variant.name, "size": list(contest.size)}


def row(contest: Contest, runs: Runs, gflops: dict[str, float], peaks: Peaks, labels: dict[str, np.ndarray]) -> dict:
    """What is written of one variant."""
    variant, start = runs.variant, labelled(contest, runs.variant)
    if runs.failed:
        return start | {"failed": runs.failed}
    middle, growth = median(runs.seconds), max(runs.growths, default=None)
    result = start | {
        "precision": variant.precision,
        "images_per_second": (contest.batch or 1) / middle,
        "median_ms": 1000 * middle,
        "fastest_ms": 1000 * min(runs.seconds),
        "slowest_ms": 1000 * max(runs.seconds),
        "first_ms": 1000 * runs.first,
        "calls": len(runs.seconds),
        "cores_busy": runs.processor / sum(runs.seconds),
        "loaded_mib": runs.loaded,
        "growth_mib": growth,
        "whole_mib": runs.loaded + (growth or 0.0),
        "memory": runs.memory,
    }
    if contest.batch:
        return result | {"batch": contest.batch}
    used, peak = peaks[variant.precision]
    nominal = gflops[variant.network.name]
    result |= {"gflops": nominal, "share_of_peak": nominal / middle / peak, "share_is_of": used}
    return result | compared(variant, labels)


def compared(variant: Variant, labels: dict[str, np.ndarray]) -> dict:
    """How many classes the class map holds, and the share of its pixels that the reference labels alike."""
    mine = labels[variant.name]
    result: dict = {"classes_seen": len(np.unique(mine))}
    if variant.reference in labels:
        result |= {"reference": variant.reference, "agreement": float((mine == labels[variant.reference]).mean())}
    return result


def about_machine(device: str, threads: int, progress: Callable[[int, int], None]) -> dict:
    """Peaks of matrix products in float32 (or what convolutions make of it) and bf16, and whether there are kernels.

    In a fresh process; it also builds the kernels, where that is still to be done.
    """
    torch.set_num_threads(threads)
    peaks: Peaks = {}
    for name, dtype in (("float32", None), ("bfloat16", torch.bfloat16)):
        speeds, used = device_peaks(torch.device(device), dtype)
        peaks[name] = (used, speeds[used] / 1e9)
        progress(len(peaks), 2)
    return {"peaks": peaks} | ({"kernels": kernels.available()} if device == "cpu" else {})
