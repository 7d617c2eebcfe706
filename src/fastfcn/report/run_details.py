"""Data of the sections on how a run was made: training curves, speed and memory, recipe, environment, labels."""

from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from fastfcn.report.charts import SERIES, Chart, Line, line_chart
from fastfcn.report.filters import UNDEFINED, compact, number
from fastfcn.report.run_report import History, RunReport

LISTED_ABSENT = 12
NOT_LOSSES = {"loss", "learning_rate", "images_per_second", "gradient_norm"}


class Table(NamedTuple):
    """Rows of a key and one value per run; `names` are the runs."""

    names: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class RecipeView:
    """A run's recipe as text; `lines` are (line, whether the value differs from the recipe's base)."""

    run: str
    name: str
    summary: str
    lines: list[tuple[str, bool]]


def training_charts(runs: list[RunReport]) -> list[Chart]:
    """Loss, validation scores, learning rate and, if logged, gradient norm and the terms of the loss, over steps."""
    single = len(runs) == 1
    charts = [
        line_chart("Loss", _logged(runs, "loss", band=single)),
        line_chart("Validation", _validations(runs)),
        line_chart("Learning rate", _logged(runs, "learning_rate")),
        line_chart("Gradient norm", _logged(runs, "gradient_norm")),
    ]
    terms = _loss_terms(runs[0].history) if single else []
    if len(terms) > 1:
        charts.append(line_chart("Loss terms", terms))
    return [chart for chart in charts if chart]


def _logged(runs: list[RunReport], name: str, band: bool = False) -> list[Line]:
    lines = []
    for series, run in zip(SERIES, runs, strict=False):
        if curve := run.history.curves.get(name):
            low, high = (curve.low, curve.high) if band else (None, None)
            lines.append(Line(series, run.name if len(runs) > 1 else "", curve.steps, curve.mean, low, high))
    return lines


def _loss_terms(history: History) -> list[Line]:
    names = [name for name in history.curves if name not in NOT_LOSSES]
    return [
        Line(series, name, history.curves[name].steps, history.curves[name].mean)
        for series, name in zip(SERIES, names, strict=False)
    ]


def _validations(runs: list[RunReport]) -> list[Line]:
    if len(runs) > 1:
        return [_validation(run.history, "miou", series, run.name) for series, run in zip(SERIES, runs, strict=False)]
    history = runs[0].history
    return [
        _validation(history, "miou", "first", "mIoU"),
        _validation(history, "pixel_accuracy", "third", "pixel accuracy"),
    ]


def _validation(history: History, key: str, series: str, name: str) -> Line:
    points = [(step, scores[key]) for step, scores in history.validations if scores.get(key) is not None]
    return Line(series, name, [step for step, _ in points], [value for _, value in points], dots=True)


def speed_table(runs: list[RunReport]) -> Table:
    """Logged training speed, and prediction latency measured for the report."""
    return _by_key(runs, [_speed(run) for run in runs])


def _speed(run: RunReport) -> dict[str, str]:
    history, analysis = run.history, run.analysis
    facts = {}
    if speeds := history.curves.get("images_per_second"):
        facts["Training, images per second (median)"] = f"{median(speeds.mean.tolist()):.3g}"
    if loss := history.curves.get("loss"):
        facts["Steps"] = f"{loss.steps[-1]:.0f}"
    if memory := history.environment.get("peak_memory_mib"):
        facts["Training, peak memory"] = f"{memory:,.0f} MiB"
    if analysis:
        speed = analysis.speed
        facts["Prediction, latency per image"] = f"{speed.milliseconds:.3g} ms (median of {speed.runs})"
        facts["Prediction, images per second"] = f"{1000 / speed.milliseconds:.3g}"
        threads = f"{speed.threads} thread{'s' if speed.threads > 1 else ''}"
        facts["Measured at"] = f"{speed.size[0]} x {speed.size[1]} pixels, {speed.device}, {threads}"
        if speed.memory_mib:
            facts["Evaluation, memory"] = f"{speed.memory_mib:,.0f} MiB: {speed.memory}"
    return facts


def recipe_differences(runs: list[RunReport]) -> Table | None:
    """Recipe values that differ between two runs; None unless both have a recipe."""
    recipes = [run.history.recipe for run in runs]
    if len(recipes) != 2 or recipes[0] is None or recipes[1] is None:
        return None
    rows = [[key, str(first), str(second)] for key, first, second in recipes[0].differences(recipes[1])]
    return Table([run.name for run in runs], rows)


def recipe_views(runs: list[RunReport]) -> list[RecipeView]:
    """The recipes of the runs that have one."""
    return [
        RecipeView(
            run.name,
            recipe.name,
            recipe.summary,
            [(line, "# was" in line) for line in recipe.text.splitlines(keepends=True)],
        )
        for run in runs
        if (recipe := run.history.recipe)
    ]


def environment_table(runs: list[RunReport]) -> Table:
    """Command, machine and versions."""
    return _by_key(runs, [_flatten(run.history.environment) for run in runs])


def label_table(runs: list[RunReport]) -> Table:
    """Pixels in the labels of each split of the first run, ignored ones, and classes without any."""
    rows = []
    for split, pixels in runs[0].history.pixels.items():
        total, ignored = sum(pixels.values()), pixels.get("ignored", 0)
        absent = [name for name, count in pixels.items() if not count and name != "ignored"]
        text = f"{compact(total)} pixels, {number(100 * ignored / max(total, 1))} % of them ignored"
        rows.append([split, text + (f"; none of: {', '.join(absent[:LISTED_ABSENT])}" if absent else "")])
    return Table([runs[0].name], rows)


def _by_key(runs: list[RunReport], columns: list[dict[str, str]]) -> Table:
    """One row per key of any column, with a dash where a run does not have it."""
    keys = dict.fromkeys(key for column in columns for key in column)
    rows = [[key, *(column.get(key, UNDEFINED) for column in columns)] for key in keys]
    return Table([run.name for run in runs], rows)


def _flatten(values: dict, prefix: str = "") -> dict[str, str]:
    rows: dict[str, str] = {}
    for key, value in values.items():
        rows |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": str(value)}
    return rows
