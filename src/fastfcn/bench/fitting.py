"""Which networks keep within a time budget: estimated from their arithmetic, the best of them measured."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf, isfinite
from statistics import median
from time import perf_counter

import torch

from fastfcn.bench.candidates import Arithmetic, Candidate, backbone_key
from fastfcn.bench.measure import Settings, out_of_memory
from fastfcn.bench.passes import Passes, profile_networks
from fastfcn.bench.stages import CLASS_MAP, HEAD, IMAGE, NECK
from fastfcn.bench.timing import Progress

COUNTING = 25  # hundredths of the work, about
REFERENCE = 30e9  # operations, about, of the network whose stages are measured for the estimates
DOUBT = 1.25  # estimates up to so many budgets are checked by measuring
LEAST_RUNS, LEAST_SECONDS = 3, 0.2  # of a measurement
BUILDING = 2.0  # seconds, about, that it takes to make a network
PART_OF = {IMAGE: "logits", NECK: "neck", HEAD: "head", CLASS_MAP: "logits"}  # else of the backbone
PARTS: tuple[str, ...] = ("backbone", "neck", "head", "logits")


class Estimate:
    """Milliseconds of candidates from their arithmetic, at the speed at which one network's stages were measured.

    What was measured of a network also corrects the estimates of those with its backbone and kind of head.
    """

    def __init__(self, arithmetic: dict[Candidate, dict[str, float]], reference: Candidate, stages: Sequence[dict]):
        spent: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        for one in stages:
            spent[PART_OF.get(one["stage"], "backbone")] += one["ms"]
        done = arithmetic[reference]
        products = sum(spent[part] for part in PARTS[:3]) / sum(done[part] for part in PARTS[:3])
        self._ms_each = {part: spent[part] / done[part] if done[part] else products for part in PARTS}
        self._arithmetic = arithmetic
        self._corrections: dict[tuple[str, str], float] = {}

    def __call__(self, candidate: Candidate) -> float:
        return self._plain(candidate) * self._corrections.get(_family(candidate), 1.0)

    def learn(self, candidate: Candidate, measured: float) -> None:
        """Correct by what was `measured` of a candidate, in milliseconds."""
        self._corrections[_family(candidate)] = measured / self._plain(candidate)

    def _plain(self, candidate: Candidate) -> float:
        return sum(self._arithmetic[candidate][part] * self._ms_each[part] for part in PARTS)


def _family(candidate: Candidate) -> tuple[str, str]:
    return backbone_key(candidate.recipe), candidate.recipe.head.kind


def fitting(
    candidates: Sequence[Candidate], budget: float, seconds: float, settings: Settings, progress: Progress
) -> dict:
    """What is known of all `candidates`, best first: arithmetic, estimate, measurement where there was time for it.

    `budget`: milliseconds for an image; `seconds`: how long to measure, at least one. Best is the largest image, then
    the largest backbone, then JPU as wide as in the recipe, then the quickest. `progress` is in hundredths.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    counting, arithmetic = Arithmetic(), {}
    for done, candidate in enumerate(candidates):
        progress(COUNTING * done // len(candidates), 100)
        arithmetic[candidate] = counting.of(candidate)
    reference = _reference(candidates, arithmetic)
    known = profile_networks([reference.recipe], reference.size, replace(settings, runs=LEAST_RUNS), lambda *_: None)
    estimate = Estimate(arithmetic, reference, known.pop("networks")[0]["stages"])

    def best_first(one: Candidate) -> tuple[float, ...]:
        size, time = one.size[0] * one.size[1], measured.get(one) or estimate(one)
        return -size, -counting.backbone_parameters(one.recipe), -one.share, time

    measured: dict[Candidate, float] = {}
    in_turn = sorted(candidates, key=best_first)
    for done in _measure(in_turn, measured, estimate, budget, seconds, settings):
        progress(COUNTING + round((100 - COUNTING) * done), 100)
    rows = [_row(one, arithmetic, measured, estimate, budget) for one in sorted(candidates, key=best_first)]
    measured_on = {"recipe": reference.recipe.name, "size": list(reference.size)}
    return known | {"estimated_from": measured_on, "candidates": rows}


def _measure(
    in_turn: Sequence[Candidate], measured: dict[Candidate, float], estimate: Estimate, budget: float, seconds: float,
    settings: Settings,
) -> Iterator[float]:  # fmt: skip
    """Fill `measured` with milliseconds of those that may keep within the budget; yields the share of `seconds` gone.

    One that would take longer than there is time left is passed over; a smaller one after it may not.
    """
    began = perf_counter()
    for candidate in in_turn:
        expected, gone = estimate(candidate), perf_counter() - began
        if expected > DOUBT * budget or (measured and gone + BUILDING + (1 + LEAST_RUNS) * expected / 1000 > seconds):
            continue
        measured[candidate] = _milliseconds(candidate, settings)
        if isfinite(measured[candidate]):
            estimate.learn(candidate, measured[candidate])
        yield min((perf_counter() - began) / max(seconds, 1e-9), 1.0)


def _milliseconds(candidate: Candidate, settings: Settings) -> float:
    """The median of a few passes after one that does not count; infinite where memory does not suffice."""
    try:
        passes = Passes(candidate.recipe, candidate.size, settings)
        passes.once()
        began = perf_counter()
        while len(passes.whole) < LEAST_RUNS or perf_counter() - began < LEAST_SECONDS:
            passes.timed()
        return median(passes.whole)
    except (RuntimeError, MemoryError) as error:
        out_of_memory(error)  # raises what is another error
        return inf


def _reference(candidates: Sequence[Candidate], arithmetic: dict[Candidate, dict[str, float]]) -> Candidate:
    """Of those with the backbone that most have, the one whose arithmetic is nearest to REFERENCE."""
    common = Counter(backbone_key(one.recipe) for one in candidates).most_common(1)[0][0]
    alike = (one for one in candidates if backbone_key(one.recipe) == common)
    return min(alike, key=lambda one: abs(_products(arithmetic[one]) - REFERENCE))


def _products(parts: dict[str, float]) -> float:
    return parts["backbone"] + parts["neck"] + parts["head"]


def _row(
    one: Candidate, arithmetic: dict[Candidate, dict[str, float]], measured: dict[Candidate, float],
    estimate: Estimate, budget: float,
) -> dict:  # fmt: skip
    """What is written of a candidate. None stands for a time that could not be had, for want of memory."""
    time = measured.get(one, estimate(one))
    return {
        "recipes": list(one.names),
        "neck": one.recipe.neck.kind,
        "width": one.width,
        "size": list(one.size),
        "gflops": _products(arithmetic[one]) / 1e9,
        "ms": time if isfinite(time) else None,
        "figure": "measured" if one in measured else "estimated",
        "fits": time <= budget,
        "published_miou": one.published,
    }
