"""`fastfcn report`: write the HTML report of a run, or of two runs side by side."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from lightning_fabric import Fabric
from lightning_fabric.strategies.single_device import SingleDeviceStrategy

from fastfcn.errors import DataError, UserError
from fastfcn.evaluation.analysis.analyze import Analysis, analyze
from fastfcn.evaluation.evaluate import load_setup
from fastfcn.evaluation.scores import EvaluationResult
from fastfcn.prediction.predictor import find_device
from fastfcn.recipes.inference import SizeLike
from fastfcn.report.html import render
from fastfcn.report.run_report import History, RunReport, read_history
from fastfcn.training.run import Run
from fastfcn.utils.files import write_text
from fastfcn.utils.machine import Machine
from fastfcn.utils.progress import with_progress
from fastfcn.weights.locate import local_file

Examples = tuple[list[int], list[int]]  # indices of the worst and the best images


def report(
    run: str | Path, machine: Machine, data: str | Path | None = None, against: str | Path | None = None,
    out: str | Path | None = None, split: str | None = None, tta: bool = False, fabric: Fabric | None = None,
) -> tuple[Path, list[str]]:  # fmt: skip
    """Write the report of the folder `run`; returns the file, and notes on what is missing in it.

    `data`: dataset folder, by default the one that the run recorded. Without data or weights, the report shows only
    what the run recorded. `against`: a second run to compare with, on the same data. `out`: the HTML file, by default
    `run`/report.html. `split`: by default the recipe's val split. `tta`: average several scales and flips. `fabric`:
    an existing Fabric to use. Raises UserError for a folder that is not a run, and for data that cannot be used.
    """
    runs: list[RunReport] = []
    examples: Examples | None = None
    for folder in (Path(run), *([Path(against)] if against else [])):
        history = read_history(folder)
        source, missing = _find_data(history, data)
        missing = (*history.notes, *missing)
        analysis = None
        if source is not None:
            fabric = fabric or machine.launch()
            analysis = _analyze(Run(folder).best, source, machine, split, tta, fabric, examples)
            examples = ([image.index for image in analysis.worst], [image.index for image in analysis.best])
        runs.append(RunReport(history, analysis, missing))
    _check_comparable(runs)
    target = Path(out) if out else Run(run).report
    write_text(target, render(runs, _created()))
    return target, [line for shown in runs for line in shown.missing]


def evaluate_with_report(
    weights: str | Path, data: str | Path, machine: Machine, out: str | Path, split: str | None = None,
    tta: bool = False, overrides: Sequence[str] = (), trusted: bool = False, size: SizeLike | None = None,
    window: SizeLike | None = None,
) -> EvaluationResult:  # fmt: skip
    """Like `evaluate.evaluate`, and write a report to `out`. It includes the log of the weights' run, if any."""
    fabric = machine.launch()
    analysis = _analyze(weights, data, machine, split, tta, fabric, None, overrides, trusted, size, window)
    if fabric.is_global_zero:
        path = local_file(weights)
        run = Run(path.parent)
        in_run = path.name in (run.best.name, run.last.name) and run.recipe.exists()
        history = read_history(run.folder) if in_run else _history_of_weights(path)
        write_text(out, render([RunReport(history, analysis, history.notes)], _created()))
    return EvaluationResult(analysis.scores, analysis.description, analysis.split)


def report_after_training(run: Run, data: str | Path, machine: Machine) -> str:
    """Write the report of a finished run; returns a line with its path, or with the reason why it failed.

    Call it in the first process only. Errors are returned, not raised: the run itself is complete.
    """
    try:
        device = find_device(machine.accelerator)
        fabric = Fabric(accelerator=device.type, strategy=SingleDeviceStrategy(device), precision=machine.precision)  # type: ignore[arg-type]
        target, _ = report(run.folder, machine, data, fabric=fabric)
    except Exception as error:
        reason = error.message if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        return f"The report failed ({reason}) Retry with: fastfcn report {run.folder} --data {data}"
    return f"Report: {target}"


def _analyze(
    weights: str | Path, data: str | Path, machine: Machine, split: str | None, tta: bool, fabric: Fabric,
    examples: Examples | None, overrides: Sequence[str] = (), trusted: bool = False, size: SizeLike | None = None,
    window: SizeLike | None = None,
) -> Analysis:  # fmt: skip
    setup = load_setup(weights, data, machine, split, overrides, fabric, trusted, size, window)
    return analyze(setup, tta, machine.dataloader_workers, with_progress if fabric.is_global_zero else None, examples)


def _find_data(history: History, data: str | Path | None) -> tuple[str | Path | None, tuple[str, ...]]:
    """The data folder to analyze the run on, or None and a note on what is missing."""
    folder = history.folder
    weights = Run(folder).best
    if not weights.exists():
        return None, (f"{weights} does not exist, so this report shows only what the run recorded.",)
    source = data or history.data_folder()
    if source is None:
        recorded = history.environment.get("data")
        reason = (
            f"The data folder {recorded} no longer exists" if recorded else "The run did not record its data folder"
        )
        hint = f"For the full report: fastfcn report {folder} --data FOLDER"
        return None, (f"{reason}, so this report shows only what the run recorded. {hint}",)
    return source, ()


def _check_comparable(runs: Sequence[RunReport]) -> None:
    """Raise UserError unless all analyzed runs have the same classes, split and number of images."""
    analyzed = [(run.name, run.analysis) for run in runs if run.analysis]
    if len(analyzed) < 2:
        return
    (name, first), (other_name, second) = analyzed
    if first.description.class_names != second.description.class_names:
        raise UserError(
            f"{name} and {other_name} have different classes and cannot be compared.", "Write one report for each."
        )
    if (first.split, first.images) != (second.split, second.images):
        raise DataError(
            f"{name} was evaluated on {first.images} images of {first.split}, {other_name} on {second.images} "
            f"images of {second.split}.",
            "Evaluate both on the same data: --data FOLDER --split NAME.",
        )


def _history_of_weights(path: Path) -> History:
    """The history of a weights file outside a run: only its recipe."""
    from fastfcn.weights.file import read

    return History(path.stem, path.parent, read(path).recipe, {}, {}, [], None, "", {})


def _created() -> str:
    return f"Created by fastfcn {version('fastfcn')}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."
