"""What a run recorded of itself: the log's curves, validation scores, recipe, environment, pixels of each class."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastfcn import build, recipes
from fastfcn.errors import DataError
from fastfcn.recipes.recipe import Recipe
from fastfcn.training.run import Run

POINTS, STRETCH = 120, 4  # of a curve, at most; steps in each, at least, from 80 steps on


@dataclass(frozen=True)
class Curve:
    """Means over equal stretches of steps, with the least and the greatest value of each stretch."""

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class History:
    """The recorded part of a run; what its folder lacks is empty or None.

    `curves`: by the log's names, such as "loss" and "learning_rate"; `validations`: (step, scores as JSON);
    `scores`: those of scores.json, or of the best validation, with `scored` saying which; `pixels`: of each class in
    each split.
    """

    name: str
    folder: Path
    recipe: Recipe | None
    environment: dict
    curves: dict[str, Curve]
    validations: list[tuple[int, dict]]
    scores: dict | None
    scored: str
    pixels: dict[str, dict[str, int]]

    def colors(self) -> dict[str, tuple[int, int, int]]:
        """Colours by class name, as far as the data set's description can be found."""
        try:
            return {each.name: each.color for each in build.description(self.recipe).classes} if self.recipe else {}
        except DataError:
            return {}


def read_history(folder: str | Path) -> History:
    """Read a run's folder. Raises DataError where it holds neither log nor recipe, or a file of it is damaged."""
    run = Run(folder)
    if not run.log.exists() and not run.recipe.exists():
        raise DataError(
            f"{folder} is no run: it holds neither log.jsonl nor recipe.toml.",
            "Name a folder that `fastfcn train --out` wrote.",
        )
    log = _read(run.log, lambda _: run.read_log()) or []
    validations = [(line["step"], line["validation"]) for line in log if "validation" in line]
    recorded = _read(run.folder / "scores.json", json.loads)
    scores, scored = _scores(recorded, validations)
    return History(
        name=Path(folder).resolve().name,
        folder=Path(folder),
        recipe=recipes.load(run.recipe) if run.recipe.exists() else None,
        environment=_read(run.environment, tomllib.loads) or {},
        curves=_curves([line for line in log if "validation" not in line]),
        validations=validations,
        scores=scores,
        scored=scored,
        pixels=_read(run.labels, json.loads) or {},
    )


def _read(path: Path, parse):
    """What `parse` makes of the text of `path`, None where there is no such file."""
    if not path.exists():
        return None
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (ValueError, KeyError, OSError) as error:
        raise DataError(f"{path} is damaged: {error}", "Restore it, or remove it to do without.") from error


def _scores(recorded: dict | None, validations: list[tuple[int, dict]]) -> tuple[dict | None, str]:
    if recorded and "classes" in recorded:
        return recorded, "scores.json"
    known = [(scores["miou"], step, scores) for step, scores in validations if scores.get("miou") is not None]
    if not known:
        return None, ""
    _, step, scores = max(known, key=lambda each: each[:2])
    return scores, f"the validation after step {step}"


def _curves(lines: list[dict]) -> dict[str, Curve]:
    names = dict.fromkeys(name for line in lines for name in line if name != "step")
    result = {}
    for name in names:
        pairs = [(line["step"], line[name]) for line in lines if isinstance(line.get(name), int | float)]
        if pairs:
            result[name] = curve(np.array(pairs, float))
    return result


def curve(pairs: np.ndarray) -> Curve:
    """Rows of (step, value) in stretches of equal length."""
    parts = np.array_split(pairs, min(POINTS, len(pairs), max(POINTS // 6, len(pairs) // STRETCH)))
    rows = [(*each.mean(0), each[:, 1].min(), each[:, 1].max()) for each in parts]
    return Curve(*np.array(rows).T)


def recorded_data(history: History) -> Path | None:
    """The data folder that the run noted, where it is still there."""
    noted = history.environment.get("data")
    return Path(noted) if noted and Path(noted).is_dir() else None
