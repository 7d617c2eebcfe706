"""Compare training with mmsegmentation's, step by step.

Run in the comparison environment (README.md):

    python benchmarks/parity/training.py

Exits with 1 if a tolerance is exceeded, or if a deliberate mistake is not detected.
"""

import argparse
import copy
import gc
import json
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import record
import torch
from openmmlab import ARCHITECTURES, Architecture
from torch import Tensor
from training_steps import (
    CROPS,
    IMAGES,
    SCHEDULE,
    STEPS,
    FastFCNTrainer,
    OpenMMLabTrainer,
    Trainer,
    batches,
    distances,
    norms,
    relative,
    schedule_difference,
    starting_network,
)

from fastfcn.weights.openmmlab import rename

# Relative, except for learning rates. In float64 for every step; in float32 see FIRST, for the first step.
BOUNDS = {
    "losses": 1e-6,
    "gradient norms": 1e-5,
    "rates": 1e-9,
    "weights, of their way": 1e-4,
    "running statistics": 1e-6,
}
# In float64 for every step, in any case: of each loss, and of the gradient of the whole network.
ALWAYS = {"losses": 1e-3, "gradient norm": 1e-2}
# If theirs with different rounding differs from itself by more than a tolerance, ours may differ this many times as
# much.
CHAOS = 3
FIRST = {"losses": 1e-3, "gradient norms": 1e-2, "rates": 1e-9}
# Rules of other trainers, and mistakes; each must be detected.
MISTAKES = (
    'loss.mean_over="labeled"',
    "auxiliary.loss_weight=0.2",
    "head.se_loss_weight=0.1",
    "optim.momentum=0.8",
    "optim.weight_decay=0.0001",
    "optim.head_lr_factor=10.0",
    "schedule.min_lr=0.0",
    'schedule.end="after_last_step"',
    "head.dropout=0.1",
)
MISTAKE_NETWORK, MISTAKE_STEPS = "fastfcn_enc_19", 2
SCHEDULES = (80_000, 160_000)


def compared_step(expected: dict[str, float], theirs: Trainer, actual: dict[str, float], side: Trainer) -> dict:
    """Losses, gradient norms, gradients and learning rates: mmsegmentation's values and the differences."""
    length, ours = norms(theirs.gradients.items()), norms(side.gradients.items())
    return {
        "losses": {
            name: {"theirs": round(value, 6), "difference": relative(actual.get(name, 0.0), value)}
            for name, value in expected.items()
        },
        "norms": {
            part: {"theirs": float(f"{norm:.6g}"), "difference": relative(ours[part], norm)}
            for part, norm in length.items()
        },
        "gradients": distances(side.gradients, theirs.gradients, length),
        "rates": {"theirs": theirs.rates[0], "difference": max(abs(rate - theirs.rates[0]) for rate in side.rates)},
    }


def columns(rows: list) -> list | dict:
    """Transpose a list of dictionaries into a dictionary of lists, recursively."""
    keys = rows[0] if isinstance(rows[0], dict) else ()
    return {key: columns([row[key] for row in rows]) for key in keys} or rows


def compared_end(start: dict[str, Tensor], theirs: Trainer, side: Trainer) -> dict:
    """Difference of the final weights, also relative to their update; and of the running statistics."""
    end, actual = theirs.state(), side.state()
    weights = {name: end[name] for name in theirs.gradients}
    way = norms((name, value.double() - start[name]) for name, value in weights.items())
    result: dict = {
        "weights": distances(actual, weights, norms(weights.items())),
        "of_way": distances(actual, weights, way),
    }
    for kind in ("running_mean", "running_var"):
        statistics = {name: value for name, value in end.items() if name.endswith(kind)}
        result[kind] = distances(actual, statistics, norms(statistics.items()))["all"]
    counts = [name for name in end if name.endswith("num_batches_tracked")]
    return result | {"batches_counted": all(torch.equal(actual[name], end[name]) for name in counts)}


def compare(
    architecture: Architecture, folder: Path, precision: torch.dtype, count: int, mistake: Sequence[str] = ()
) -> dict[str, dict]:
    """Run `count` steps from the same weights on each side.

    Returns the differences of "ours" from theirs and, in float32, of "itself": theirs with tensors in channels last, so
    the same rules with different rounding. In float64, "itself" is measured for PSP, whose batch norms over a few
    pooled values amplify rounding errors.
    """
    gc.collect()  # networks and hooks are in reference cycles, and take gigabytes
    model = starting_network(architecture, folder)
    start = {rename(name): value.clone() for name, value in model.state_dict().items()}
    other = copy.deepcopy(model) if precision == torch.float32 or "psp" in architecture.name else None
    theirs = OpenMMLabTrainer(model, precision)
    sides: dict[str, Trainer] = {"ours": FastFCNTrainer(architecture, start, precision, mistake)}
    if other:
        sides["itself"] = OpenMMLabTrainer(other, precision, torch.channels_last)
    rows: dict[str, list] = {name: [] for name in sides}
    for batch in batches(folder, architecture.classes, count):
        expected = theirs.step(*batch)
        for name, side in sides.items():
            rows[name].append(compared_step(expected, theirs, side.step(*batch), side))
    return {name: {"steps": columns(rows[name])} | compared_end(start, theirs, side) for name, side in sides.items()}


def worst(followed: dict, count: int | None = None) -> dict[str, float]:
    """The largest difference of each kind that has a tolerance, over the first `count` steps."""
    steps = followed["steps"]
    return {
        "losses": max(max(loss["difference"][:count]) for loss in steps["losses"].values()),
        "gradient norms": max(max(norm["difference"][:count]) for norm in steps["norms"].values()),
        "rates": max(steps["rates"]["difference"][:count]),
        "weights, of their way": max(followed["of_way"].values()),
        "running statistics": max(followed["running_mean"], followed["running_var"]),
    }


def broken(differences: dict[str, float], itself: dict[str, float] | None = None) -> list[str]:
    allowed = {kind: max(bound, CHAOS * itself[kind]) if itself else bound for kind, bound in BOUNDS.items()}
    return [f"{kind} {differences[kind]:.0e}" for kind, bound in allowed.items() if not differences[kind] <= bound]


def broken_always(steps: dict) -> list[str]:
    losses = max(max(loss["difference"]) for loss in steps["losses"].values())
    actual = {"losses": losses, "gradient norm": max(steps["norms"]["all"]["difference"])}
    return [f"{kind} {actual[kind]:.0e} in ten steps" for kind, bound in ALWAYS.items() if not actual[kind] <= bound]


def failures(result: dict) -> Iterator[str]:
    """What exceeds a tolerance, one line each."""
    for name, network in result["networks"].items():
        exact, usual = (network[precision]["ours"] for precision in ("float64", "float32"))
        itself = network["float64"].get("itself")
        lines = broken(worst(exact), worst(itself) if itself else None) + broken_always(exact["steps"])
        yield from (f"{name}: {line}" for line in lines)
        # After the first step rounding dominates in float32; results are shown next to those of theirs against itself.
        first = worst(usual, count=1)
        yield from (f"{name}, float32: {kind}" for kind, bound in FIRST.items() if not first[kind] <= bound)
        if not (exact["batches_counted"] and usual["batches_counted"]):
            yield f"{name}: batch norms counted different numbers of batches"
    for steps, difference in result["schedules"].items():
        if difference > BOUNDS["rates"]:
            yield f"schedule of {steps} steps: rates differ by {difference}"
    yield from (f"{name} is not detected" for name, changed in result["mistakes"].items() if not broken(changed))


def lines(result: dict) -> list[str]:
    """The tables of README.md."""
    rows = []
    for name, network in result["networks"].items():
        for precision, sides in network.items():
            for side, followed in sides.items():
                shown = [f"{value:.0e}" for kind, value in worst(followed).items() if kind != "rates"]
                first = worst(followed, count=1)["gradient norms"]
                rows.append([name, precision, side, f"{first:.0e}", *shown])
    kinds = [kind for kind in BOUNDS if kind != "rates"]
    mistakes = [[f"`{name}`", "; ".join(broken(differences))] for name, differences in result["mistakes"].items()]
    rates = max(result["schedules"].values())
    return [
        f"{result['date']}, {result['machine']['processor']}, torch {result['versions']['torch']}. The rates of whole "
        f"schedules ({' and '.join(f'{int(steps):,}' for steps in result['schedules'])} steps) differ by {rates:.0e} "
        "at most.",
        "",
        *record.table(["network", "numbers", "theirs against", "first gradient norms", *kinds], rows),
        "",
        *record.table(["deliberate mistake", "exceeded tolerances"], mistakes),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--images", type=Path, default=record.REPOSITORY.parent / "shared/data/samples", help="folder with images"
    )
    parser.add_argument(
        "--only", nargs="*", help="networks such as fastfcn_psp_19; results are not written without --merge"
    )
    parser.add_argument("--merge", action="store_true", help="merge results of --only into the result file")
    parser.add_argument("--steps", type=int, default=STEPS, help="number of steps; only the default is written")
    arguments = parser.parse_args()
    start_time = time.monotonic()
    networks: dict[str, dict] = {}
    mistakes = {}
    for architecture in ARCHITECTURES:
        if not architecture.jpu or (arguments.only and architecture.name not in arguments.only):
            continue
        networks[architecture.name] = {}
        for precision in (torch.float64, torch.float32):
            differences = compare(architecture, arguments.images, precision, arguments.steps)
            networks[architecture.name][str(precision).removeprefix("torch.")] = differences
            for side, followed in differences.items():
                print(
                    architecture.name,
                    precision,
                    side,
                    worst(followed),
                    f"{time.monotonic() - start_time:.0f} s",
                    flush=True,
                )
        for mistake in MISTAKES if architecture.name == MISTAKE_NETWORK else ():
            wrong = compare(architecture, arguments.images, torch.float64, MISTAKE_STEPS, [mistake])
            mistakes[mistake] = worst(wrong["ours"])
            print(mistake, "breaks", broken(mistakes[mistake]), flush=True)
    path = record.RESULTS / "parity_training.json"
    if arguments.merge:
        earlier = json.loads(path.read_text())
        networks, mistakes = earlier["networks"] | networks, earlier["mistakes"] | mistakes
    result = record.circumstances(time.monotonic() - start_time) | {
        "bounds": {"float64": BOUNDS, "always": ALWAYS, "float32, first step": FIRST},
        "setting": {"batch": IMAGES, "crops": CROPS, "schedule": SCHEDULE, "mistaken_steps": MISTAKE_STEPS},
        "schedules": {str(steps): schedule_difference(steps) for steps in SCHEDULES},
        "mistakes": mistakes,
        "networks": networks,
    }
    if (arguments.merge or not arguments.only) and arguments.steps == STEPS:
        record.write("parity_training", result)
        path.write_text(re.sub(r"\[[^][{}]*\]", lambda numbers: " ".join(numbers[0].split()), path.read_text()))
        record.put_table("training", lines(result))
    raise SystemExit("\n".join(failures(result)) or 0)


if __name__ == "__main__":
    main()
