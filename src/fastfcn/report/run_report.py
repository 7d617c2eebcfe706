"""What a report knows about a run: the history recorded in its folder, and the analysis of its weights."""

import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastfcn import build, recipes
from fastfcn.errors import DataError
from fastfcn.evaluation.analysis.analyze import Analysis
from fastfcn.recipes.recipe import Recipe
from fastfcn.training import run_log
from fastfcn.training.run import Run
from fastfcn.utils.storage import url_of

POINTS, STEPS_PER_POINT = 120, 4  # most points of a curve; fewest steps averaged per point in runs over 80 steps


@dataclass(frozen=True)
class Curve:
    """A logged value over training steps: means over equal intervals of steps, with each interval's extremes."""

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class History:
    """The recorded part of a run. Whatever its folder does not contain is empty or None.

    `curves`: by name in the log, such as "loss" and "learning_rate"; `validations`: (step, scores as JSON); `scores`:
    from scores.json or the best validation, `scores_source` says which; `pixels`: labeled pixels of each class by
    split; `notes`: what is damaged in the folder.
    """

    name: str
    folder: Path
    recipe: Recipe | None
    environment: dict
    curves: dict[str, Curve]
    validations: list[tuple[int, dict]]
    scores: dict | None
    scores_source: str
    pixels: dict[str, dict[str, int]]
    notes: tuple[str, ...] = ()

    def colors(self) -> dict[str, tuple[int, int, int]]:
        """RGB colors by class name; empty if the dataset's description cannot be found."""
        try:
            return {label.name: label.color for label in build.description(self.recipe).classes} if self.recipe else {}
        except DataError:
            return {}

    def data_folder(self) -> str | Path | None:
        """The URL or the data folder that the run recorded, if the folder still exists."""
        recorded = self.environment.get("data")
        if not isinstance(recorded, str) or not recorded:
            return None
        return url_of(recorded) or (Path(recorded) if Path(recorded).is_dir() else None)


@dataclass(frozen=True)
class RunReport:
    """A run's history, the analysis of its weights (None if they or the data are missing), and notes on what is."""

    history: History
    analysis: Analysis | None
    missing: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.history.name


def read_history(folder: str | Path) -> History:
    """Read a run's folder. Raises DataError if it has neither log nor recipe, or if one of its files is damaged."""
    run = Run(folder)
    if not run.log.exists() and not run.recipe.exists():
        raise DataError(
            f"{folder} is not a run: it contains neither log.jsonl nor recipe.toml.",
            "Pass a folder written by `fastfcn train --out`.",
        )
    log, damaged = _read_log(run.log)
    validations = [(line["step"], line["validation"]) for line in log if "validation" in line]
    scores, scores_source = _best_scores(_read(run.folder / "scores.json", json.loads, _is_scores), validations)
    return History(
        name=Path(folder).resolve().name,
        folder=Path(folder),
        recipe=recipes.load(run.recipe) if run.recipe.exists() else None,
        environment=_read(run.environment, tomllib.loads, _is_environment) or {},
        curves=_curves([line for line in log if "validation" not in line]),
        validations=validations,
        scores=scores,
        scores_source=scores_source,
        pixels=_read(run.labels, json.loads, _is_pixels) or {},
        notes=(run_log.damage(run.log, damaged),) if damaged else (),
    )


def _read_log(path: Path) -> run_log.LogContent:
    try:
        return run_log.read(path)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {(error.strerror or str(error)).lower()}.") from error


def _read(path: Path, parse: Callable[[str], Any], is_valid: Callable[[Any], bool]) -> Any:
    """The parsed text of `path`, or None if the file does not exist. Raises DataError if it is not valid."""
    if not path.exists():
        return None
    try:
        content = parse(path.read_text(encoding="utf-8"))
        if not is_valid(content):
            raise ValueError("its values are not those that fastfcn writes")
        return content
    except (ValueError, RecursionError, OSError) as error:
        raise DataError(f"{path} is damaged: {error}", "Restore it, or delete it to report without it.") from error


def _is_scores(content: Any) -> bool:
    """Scores as `evaluate --json` writes them, or another object, which is not used."""
    return isinstance(content, dict) and ("classes" not in content or run_log.are_scores(content))


def _is_environment(content: dict) -> bool:
    """A path cannot contain a null character."""
    return isinstance(content.get("data", ""), str) and "\0" not in content.get("data", "")


def _is_pixels(content: Any) -> bool:
    """Numbers of labeled pixels by split and class."""
    splits = list(content.values()) if isinstance(content, dict) else [None]
    return all(isinstance(split, dict) and all(map(run_log.is_count, split.values())) for split in splits)


def _best_scores(recorded: dict | None, validations: list[tuple[int, dict]]) -> tuple[dict | None, str]:
    if recorded and "classes" in recorded:
        return recorded, "scores.json"
    scored = [(scores["miou"], step, scores) for step, scores in validations if scores.get("miou") is not None]
    if not scored:
        return None, ""
    _, step, scores = max(scored, key=lambda entry: entry[:2])
    return scores, f"validation at step {step}"


def _curves(lines: list[dict]) -> dict[str, Curve]:
    names = dict.fromkeys(name for line in lines for name in line if name != "step")
    result = {}
    for name in names:
        pairs = [(line["step"], line[name]) for line in lines if isinstance(line.get(name), int | float)]
        if pairs:
            result[name] = curve(np.array(pairs, float))
    return result


def curve(pairs: np.ndarray) -> Curve:
    """Average rows of (step, value) over intervals of equal length."""
    parts = np.array_split(pairs, min(POINTS, len(pairs), max(POINTS // 6, len(pairs) // STEPS_PER_POINT)))
    rows = [(*part.mean(0), part[:, 1].min(), part[:, 1].max()) for part in parts]
    return Curve(*np.array(rows).T)
