"""Train a recipe several times, with other validation folds or other seeds, and summarize the scores."""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastfcn.data.folds import fold_splits, parse_fold
from fastfcn.errors import UserError
from fastfcn.recipes.recipe import Recipe
from fastfcn.training.run import Run, TrainingResult
from fastfcn.training.train import train
from fastfcn.utils.console import error_console, styled
from fastfcn.utils.files import write_text
from fastfcn.utils.machine import Machine

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Repeat:
    """One of several trainings: the name of its folder, and its recipe."""

    name: str
    recipe: Recipe


@dataclass(frozen=True)
class Statistics:
    """Mean and sample standard deviation of values in percent; `count` of them are defined. nan without any."""

    mean: float
    deviation: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Statistics":
        defined = [value for value in values if value is not None]
        mean = statistics.fmean(defined) if defined else math.nan
        return cls(mean, statistics.stdev(defined) if len(defined) > 1 else math.nan, len(defined))


@dataclass(frozen=True)
class RepeatedResult:
    """The finished trainings by name, the scores of their best weights, and the one that was stopped, if any.

    `miou` and `classes` (by name) summarize the finished trainings.
    """

    folder: Path
    runs: dict[str, TrainingResult]
    scores: dict[str, dict]
    stopped: TrainingResult | None = None

    @property
    def miou(self) -> Statistics:
        return Statistics.of([scores["miou"] for scores in self.scores.values()])

    @property
    def classes(self) -> dict[str, Statistics]:
        names = list(next(iter(self.scores.values()))["classes"]) if self.scores else []
        return {
            name: Statistics.of([scores["classes"][name]["iou"] for scores in self.scores.values()]) for name in names
        }

    def as_json(self) -> dict:
        """`miou`, and the classes by name, as mean, deviation and count; then the scores of every run."""

        def record(values: Statistics) -> dict:
            numbers = {"mean": values.mean, "deviation": values.deviation}
            rounded = {key: None if math.isnan(value) else round(value, 4) for key, value in numbers.items()}
            return {**rounded, "count": values.count}

        runs = {
            name: {"step": run.best_step, "weights": str(run.weights), **self.scores[name]}
            for name, run in self.runs.items()
        }
        return {
            "miou": record(self.miou),
            "classes": {name: record(values) for name, values in self.classes.items()},
            "runs": runs,
        }


def repeats(recipe: Recipe, folds: int = 1, seeds: int = 1) -> list[Repeat]:
    """The trainings of `folds` folds times `seeds` seeds, beginning with the recipe's.

    Folds divide the training and validation images together, but not those of a split named "test".
    """
    data = recipe.data
    names = [part.strip() for split in (data.train_split, data.val_split) for part in parse_fold(split)[0].split("+")]
    split = "+".join(name for name in dict.fromkeys(names) if name != "test")
    result = []
    for fold in range(1, folds + 1):
        for seed in range(recipe.seed, recipe.seed + seeds):
            changes, name = [], []
            if folds > 1:
                train_split, val_split = fold_splits(split, fold, folds)
                changes += [f"data.train_split={json.dumps(train_split)}", f"data.val_split={json.dumps(val_split)}"]
                name.append(f"fold-{fold}-of-{folds}")
            if seeds > 1:
                changes.append(f"seed={seed}")
                name.append(f"seed-{seed}")
            result.append(Repeat("-".join(name), recipe.override(changes)))
    return result


def train_repeats(
    planned: Sequence[Repeat], data: str | Path, out: str | Path, machine: Machine, resume: bool = False,
    logs: Sequence[str] = (), accept_changed_data: bool = False, after: Callable[[TrainingResult], None] | None = None,
    strict: bool = False, trust_labels: bool = False,
) -> RepeatedResult:  # fmt: skip
    """Train one after the other, each into its own folder in `out`; arguments as for `train`.

    The summary of the trainings so far is `out`/summary.json. `resume` skips the finished ones and continues the
    stopped one. `after` is called with each result. Raises UserError as `train` does, and for more than one process.
    """
    if machine.processes > 1:
        raise UserError(
            "Folds and seeds run on one device.",
            'Run them one by one: fastfcn train ... seed=1 or data.val_split="val fold 1/5", each with its own --out.',
        )
    runs: dict[str, TrainingResult] = {}
    scores: dict[str, dict] = {}
    for number, repeat in enumerate(planned, start=1):
        folder = Path(out) / repeat.name
        error_console.print_line(styled("Training {} of {}: {}", number, len(planned), folder))
        again = resume and Run(folder).recipe.exists()
        result = train(repeat.recipe, data, folder, machine, again, logs, accept_changed_data, strict, trust_labels)
        if not result.finished:
            return RepeatedResult(Path(out), runs, scores, stopped=result)
        if after:
            after(result)
        runs[repeat.name], scores[repeat.name] = result, best_scores(result)
        so_far = RepeatedResult(Path(out), runs, scores)
        write_text(Path(out) / SUMMARY, json.dumps(so_far.as_json(), indent=2) + "\n")
    return RepeatedResult(Path(out), runs, scores)


def best_scores(result: TrainingResult) -> dict:
    """The validation scores of the best weights, from the log."""
    return next(
        line["validation"] for line in result.log() if line["step"] == result.best_step and "validation" in line
    )
