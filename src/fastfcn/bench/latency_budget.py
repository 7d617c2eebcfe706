"""Which networks meet a latency budget: latency is estimated from FLOPs, and measured for the best candidates."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf, isfinite
from statistics import median
from time import perf_counter

import torch

from fastfcn.bench.candidates import Candidate, PartFlops, backbone_key
from fastfcn.bench.measure import Settings, out_of_memory
from fastfcn.bench.stage_profiler import StageProfiler, profile_networks
from fastfcn.bench.stages import HEAD, IMAGE, LABELS, NECK
from fastfcn.bench.timing import Progress

COUNTING_PERCENT = 25  # share of counting FLOPs in the progress bar
REFERENCE_FLOPS = 30e9  # of the network whose measured stages the estimates are based on, approximately
MARGIN = 1.25  # candidates are measured if their estimate is at most this many budgets
LEAST_RUNS, LEAST_SECONDS = 3, 0.2  # per measured candidate
BUILD_SECONDS = 2.0  # to create a network, approximately
PART_OF = {IMAGE: "logits", NECK: "neck", HEAD: "head", LABELS: "logits"}  # all other stages: backbone
PARTS: tuple[str, ...] = ("backbone", "neck", "head", "logits")


class LatencyEstimate:
    """Estimated milliseconds of candidates: FLOPs of each part, at the speed measured for one network's stages.

    The measured latency of a candidate corrects the estimates of those with the same backbone and kind of head.
    """

    def __init__(self, flops: dict[Candidate, dict[str, float]], reference: Candidate, stages: Sequence[dict]):
        spent: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        for stage in stages:
            spent[PART_OF.get(stage["stage"], "backbone")] += stage["ms"]
        counts = flops[reference]
        overall = sum(spent[part] for part in PARTS[:3]) / sum(counts[part] for part in PARTS[:3])
        self._ms_per_operation = {part: spent[part] / counts[part] if counts[part] else overall for part in PARTS}
        self._flops = flops
        self._corrections: dict[tuple[str, str], float] = {}

    def __call__(self, candidate: Candidate) -> float:
        return self._uncorrected(candidate) * self._corrections.get(_family(candidate), 1.0)

    def correct(self, candidate: Candidate, measured: float) -> None:
        """Use the `measured` milliseconds of a candidate."""
        self._corrections[_family(candidate)] = measured / self._uncorrected(candidate)

    def _uncorrected(self, candidate: Candidate) -> float:
        return sum(self._flops[candidate][part] * self._ms_per_operation[part] for part in PARTS)


def _family(candidate: Candidate) -> tuple[str, str]:
    return backbone_key(candidate.recipe), candidate.recipe.head.kind


def rank_candidates(
    candidates: Sequence[Candidate], budget: float, seconds: float, settings: Settings, progress: Progress
) -> dict:
    """All `candidates`, best first, with their FLOPs and a measured or estimated latency.

    `budget`: milliseconds per image; `seconds`: how long to measure (at least one candidate is measured). The best is
    the largest image, then the largest backbone, then JPU as wide as in the recipe, then the lowest latency.
    `progress` is in percent.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    counter, flops = PartFlops(), {}
    for done, candidate in enumerate(candidates):
        progress(COUNTING_PERCENT * done // len(candidates), 100)
        flops[candidate] = counter.of(candidate)
    reference = _reference(candidates, flops)
    profiled = profile_networks([reference.recipe], reference.size, replace(settings, runs=LEAST_RUNS), lambda *_: None)
    estimate = LatencyEstimate(flops, reference, profiled.pop("networks")[0]["stages"])

    def rank(candidate: Candidate) -> tuple[float, ...]:
        pixels, time = candidate.size[0] * candidate.size[1], measured.get(candidate) or estimate(candidate)
        return -pixels, -counter.backbone_parameters(candidate.recipe), -candidate.share, time

    measured: dict[Candidate, float] = {}
    ranked = sorted(candidates, key=rank)
    for done in _measure(ranked, measured, estimate, budget, seconds, settings):
        progress(COUNTING_PERCENT + round((100 - COUNTING_PERCENT) * done), 100)
    rows = [_row(candidate, flops, measured, estimate, budget) for candidate in sorted(candidates, key=rank)]
    estimated_from = {"recipe": reference.recipe.name, "size": list(reference.size)}
    return profiled | {"estimated_from": estimated_from, "candidates": rows}


def _measure(
    ranked: Sequence[Candidate], measured: dict[Candidate, float], estimate: LatencyEstimate, budget: float,
    seconds: float, settings: Settings,
) -> Iterator[float]:  # fmt: skip
    """Fill `measured` with milliseconds of candidates that may meet the budget; yields the used share of `seconds`.

    A candidate that would take longer than the time left is skipped; a smaller one after it may still be measured.
    """
    start = perf_counter()
    for candidate in ranked:
        expected, elapsed = estimate(candidate), perf_counter() - start
        needed = BUILD_SECONDS + (1 + LEAST_RUNS) * expected / 1000
        if expected > MARGIN * budget or (measured and elapsed + needed > seconds):
            continue
        measured[candidate] = _milliseconds(candidate, settings)
        if isfinite(measured[candidate]):
            estimate.correct(candidate, measured[candidate])
        yield min((perf_counter() - start) / max(seconds, 1e-9), 1.0)


def _milliseconds(candidate: Candidate, settings: Settings) -> float:
    """The median of a few passes after one warm-up pass; infinite if memory is too small."""
    try:
        profiler = StageProfiler(candidate.recipe, candidate.size, settings)
        profiler.run()
        start = perf_counter()
        while len(profiler.total_ms) < LEAST_RUNS or perf_counter() - start < LEAST_SECONDS:
            profiler.time_total()
        return median(profiler.total_ms)
    except (RuntimeError, MemoryError) as error:
        out_of_memory(error)  # raises all other errors
        return inf


def _reference(candidates: Sequence[Candidate], flops: dict[Candidate, dict[str, float]]) -> Candidate:
    """Of the candidates with the most common backbone, the one whose FLOPs are closest to REFERENCE_FLOPS."""
    common = Counter(backbone_key(candidate.recipe) for candidate in candidates).most_common(1)[0][0]
    matching = (candidate for candidate in candidates if backbone_key(candidate.recipe) == common)
    return min(matching, key=lambda candidate: abs(_network_flops(flops[candidate]) - REFERENCE_FLOPS))


def _network_flops(parts: dict[str, float]) -> float:
    return parts["backbone"] + parts["neck"] + parts["head"]


def _row(
    candidate: Candidate, flops: dict[Candidate, dict[str, float]], measured: dict[Candidate, float],
    estimate: LatencyEstimate, budget: float,
) -> dict:  # fmt: skip
    """The record of a candidate; "ms" is None if memory was too small."""
    time = measured.get(candidate, estimate(candidate))
    return {
        "recipes": list(candidate.names),
        "neck": candidate.recipe.neck.kind,
        "width": candidate.width,
        "size": list(candidate.size),
        "gflops": _network_flops(flops[candidate]) / 1e9,
        "ms": time if isfinite(time) else None,
        "figure": "measured" if candidate in measured else "estimated",
        "fits": time <= budget,
        "published_miou": candidate.published,
    }
