"""`fastfcn profile`: time, FLOPs and memory of each stage, and the networks that meet a latency budget."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from fastfcn import recipes
from fastfcn.bench.candidates import candidate_sizes, candidates, dilated_baseline, parse_latency
from fastfcn.bench.fresh_process import in_fresh_process
from fastfcn.bench.latency_budget import rank_candidates
from fastfcn.bench.measure import Settings
from fastfcn.bench.record import rounded
from fastfcn.bench.stage_profiler import profile_networks
from fastfcn.bench.stages import HEAD, IMAGE, LABELS, NECK
from fastfcn.errors import UserError
from fastfcn.utils.progress import progress_bar
from fastfcn.utils.provenance import today

SECONDS = 30.0  # of measuring for a budget; counting FLOPs and estimating take additional time
TITLES = {IMAGE: "normalize image", LABELS: "upsample + argmax"}

STAGE_NOTES = {
    "stages": "a stage is everything between the end of the previous stage and its own end, as inference runs it, from "
    "a uint8 image to the label map",
    "parameters": "of the network as it is trained, without the auxiliary head",
    "gflops": "2 per multiply-add; convolutions and matrix products of the plain network",
    "ms": "median of the passes; the device is synchronized at the end of each stage",
    "ms_unmarked": "median of passes without these synchronizations, alternating with them",
    "neck_runs_heads_1x1": "the head's first 1x1 convolution runs with the neck; its time and weights count there",
    "cores_busy": "average number of busy CPU cores; lower than the number of threads if the machine had other work",
    "weights_mib": "parameters and buffers as used for inference; 1 MiB = 2**20 bytes",
    "output_mib": "output of the stage, without its temporary memory",
    "peak_growth_mib": "on a GPU: peak tensor memory during the stage minus tensor memory before it",
}
BUDGET_NOTES = {
    "order": "best first: the largest image, then the largest backbone, then JPU as wide as in the recipe (512 for the "
    "published ones), then the lowest latency; how much mIoU a narrower JPU costs is only known after training",
    "recipes": "recipes with this network; their steps and batch size do not matter here",
    "width": "of JPU; add neck.width=WIDTH after the recipe's name to get this network",
    "gflops": "2 per multiply-add; convolutions and matrix products",
    "ms": "latency of one image, from uint8 pixels to the label map, batch size 1, random weights; null: out of memory",
    "figure": "measured: the median of at least three passes of this network at this size. estimated: its FLOPs at the "
    "speed measured for the stages of one network, corrected by the measurements of networks with the same backbone "
    "and kind of head",
    "cores_busy": "average number of busy CPU cores while the stages of that network were measured",
    "published_miou": "in percent, on the recipe's own data at its own test size, not at this one",
}


def profile(names: Sequence[str], changes: Sequence[str] = (), settings: Settings | None = None) -> dict:
    """Measure the cost of each stage of the one recipe in `names`, and of its dilated baseline if it has one.

    `changes`: overrides of the recipe, such as "neck.width=128". The image size is that of `settings`, by default the
    recipe's crop. Returns the content of the JSON file: date, machine, versions, notes, and the stages of each network.
    Raises UserError and its subclasses.
    """
    if len(names) != 1:
        raise UserError("Name one recipe.", "Or give a latency budget: --budget '20 ms'.")
    settings, recipe = settings or Settings(), recipes.load(names[0], changes)
    baseline, size = dilated_baseline(recipe), settings.size or recipe.data.crop
    networks = [recipe] + ([baseline] if baseline else [])
    title = f"{recipe.name}{' and its dilated baseline' * bool(baseline)}"
    setting = {"size": list(size), "precision": settings.precision, "changes": list(changes), "notes": STAGE_NOTES}
    return _measured(title, setting, profile_networks, networks, size, settings)


def within_budget(
    budget: str,
    names: Sequence[str] = (),
    changes: Sequence[str] = (),
    settings: Settings | None = None,
    seconds: float = SECONDS,
) -> dict:
    """Find the networks of the recipes `names` (default: all shipped ones) whose latency is within `budget`.

    `budget`: "20 ms", "0.5 s" or "30 images/s"; `seconds`: how long to measure. Networks with JPU are tried at several
    widths, all networks also at half and a quarter of the size in `settings` (default: 512x1024 and 256x512). Returns
    the content of the JSON file: date, machine, versions, notes, and all candidates, best first. Raises UserError and
    its subclasses.
    """
    settings, limit = settings or Settings(), parse_latency(budget)
    networks = candidates(names or recipes.names(), changes, candidate_sizes(settings.size))
    setting = {"budget_ms": limit, "precision": settings.precision, "changes": list(changes), "notes": BUDGET_NOTES}
    return _measured(
        f"{len(networks)} networks for {budget}", setting, rank_candidates, networks, limit, seconds, settings
    )


def stage_order(record: dict) -> list[str]:
    """All stages in the order they run; the first network of a record has all of them."""
    return [stage["stage"] for stage in record["networks"][0]["stages"]]


def stage_title(stage: str, network: dict) -> str:
    """The name of a stage in tables and charts: `neck (JPU)`."""
    kind = {NECK: network["neck"], HEAD: network["head"]}.get(stage)
    return f"{stage} ({kind.upper()})" if kind else TITLES.get(stage, stage)


def network_kinds(record: dict) -> list[str]:
    """A short label for each network of a record: its neck, or `dilated`."""
    return ["dilated" if network["neck"] == "none" else network["neck"].upper() for network in record["networks"]]


def _measured(title: str, setting: dict, function: Callable[..., dict], *arguments: Any) -> dict:
    """Run `function` in a fresh process under a progress bar called `title`; returns the record."""
    start = perf_counter()
    with progress_bar() as bar:
        task = bar.add_task(title, total=None)
        try:
            measured = in_fresh_process(
                function, *arguments, progress=lambda done, total: bar.update(task, completed=done, total=total)
            )
        except MemoryError as error:
            raise UserError(f"Out of memory: {error}.", "Lower --size.") from error
        bar.update(task, visible=False)
    record = {"date": today(), "seconds": round(perf_counter() - start)}
    return record | setting | {key: rounded(value) for key, value in measured.items()}
