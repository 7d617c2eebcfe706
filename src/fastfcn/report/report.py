"""`fastfcn report`: what there is to know of a run, or of two side by side, as one HTML file."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from lightning.fabric import Fabric
from lightning.fabric.strategies.single_device import SingleDeviceStrategy

from fastfcn.errors import DataError, UserError
from fastfcn.evaluation.analysis.collector import Findings, find
from fastfcn.evaluation.evaluate import load_setup
from fastfcn.evaluation.scores import EvaluationResult
from fastfcn.prediction.predictor import find_device
from fastfcn.report.account import Account
from fastfcn.report.history import History, read_history, recorded_data
from fastfcn.report.page import page
from fastfcn.training.run import Run
from fastfcn.utils.files import write_text
from fastfcn.utils.machine import Machine
from fastfcn.utils.progress import counted
from fastfcn.weights.hub import local_file

Chosen = tuple[list[int], list[int]]  # worst and best images


def report(
    run: str | Path, machine: Machine, data: str | Path | None = None, against: str | Path | None = None,
    out: str | Path | None = None, split: str | None = None, tta: bool = False, fabric: Fabric | None = None,
) -> tuple[Path, list[str]]:  # fmt: skip
    """Write the report of the folder `run`, by default to `run`/report.html; returns the file and what it lacks.

    The data are taken from `data`, else from where the run's training had them. Where there are none, or no weights,
    the report tells what the run recorded. `against`: a second run on the same data. `fabric`: where there is one
    already. Raises UserError (its kinds) for a folder that is no run and for `data` that cannot be used.
    """
    folders = [Path(run), *([Path(against)] if against else [])]
    accounts: list[Account] = []
    shown: Chosen | None = None
    for folder in folders:
        history = read_history(folder)
        place, missing = _place(history, data)
        findings = None
        if not missing:
            fabric = fabric or machine.launch()
            findings = _find(Run(folder).best, place or "", machine, split, tta, fabric, shown)
            shown = ([each.index for each in findings.worst], [each.index for each in findings.best])
        accounts.append(Account(history, findings, missing))
    _check_comparable(accounts)
    target = Path(out) if out else Run(run).report
    write_text(target, page(accounts, _made()))
    return target, [line for each in accounts for line in each.missing]


def evaluate_with_report(
    weights: str | Path, data: str | Path, machine: Machine, out: str | Path, split: str | None = None,
    tta: bool = False, changes: Sequence[str] = (), trusted: bool = False,
) -> EvaluationResult:  # fmt: skip
    """As `evaluate.evaluate`, and write a report to `out`, with the log of the run that the weights lie in, if any."""
    fabric = machine.launch()
    findings = _find(weights, data, machine, split, tta, fabric, None, changes, trusted)
    if fabric.is_global_zero:
        path = local_file(weights)
        run = Run(path.parent)
        in_run = path.name in (run.best.name, run.last.name) and run.recipe.exists()
        history = read_history(run.folder) if in_run else _bare(path)
        write_text(out, page([Account(history, findings)], _made()))
    return EvaluationResult(findings.scores, findings.about, findings.split)


def report_after_training(run: Run, data: str | Path, machine: Machine) -> str:
    """Write the report of a run that has just ended; returns a line that says where it is, or why there is none.

    Called by the first process alone. Whatever goes wrong is told, not raised: the run is safe.
    """
    try:
        device = find_device(machine.accelerator)
        alone = Fabric(accelerator=device.type, strategy=SingleDeviceStrategy(device), precision=machine.precision)  # type: ignore[arg-type]
        target, _ = report(run.folder, machine, data, fabric=alone)
    except Exception as error:
        reason = error.message if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        return f"No report was written ({reason}) Try: fastfcn report {run.folder} --data {data}"
    return f"Report: {target}"


def _find(
    weights: str | Path, data: str | Path, machine: Machine, split: str | None, tta: bool, fabric: Fabric,
    shown: Chosen | None, changes: Sequence[str] = (), trusted: bool = False,
) -> Findings:  # fmt: skip
    setup = load_setup(weights, data, machine, split, changes, fabric, trusted)
    return find(setup, tta, machine.dataloader_workers, counted if fabric.is_global_zero else None, shown)


def _place(history: History, data: str | Path | None) -> tuple[str | Path | None, tuple[str, ...]]:
    """Where the data are, and sentences on what is missing to evaluate the run."""
    folder = history.folder
    if not Run(folder).best.exists():
        lacking = f"There is no {folder / 'weights.safetensors'}, so nothing could be evaluated: "
        return None, (lacking + "what follows is what the run recorded.",)
    place = data or recorded_data(history)
    if place is None:
        noted = history.environment.get("data")
        gone = f"The data are no longer at {noted}" if noted else "The run does not say where its data are"
        told = f"{gone}, so only what it recorded is shown. For the rest: fastfcn report {folder} --data FOLDER"
        return None, (told,)
    return place, ()


def _check_comparable(accounts: Sequence[Account]) -> None:
    found = [each for each in accounts if each.findings]
    if len(found) < 2:
        return
    mine, theirs = (each.findings for each in found)
    assert mine is not None
    assert theirs is not None
    if mine.about.class_names != theirs.about.class_names:
        raise UserError(
            f"{found[0].name} and {found[1].name} tell different classes apart, so they cannot stand side by side.",
            "Report them one by one.",
        )
    if (mine.split, mine.images) != (theirs.split, theirs.images):
        raise DataError(
            f"{found[0].name} was scored on {mine.images} images of {mine.split}, {found[1].name} on {theirs.images} "
            f"of {theirs.split}.",
            "Name one data set and split for both: --data FOLDER --split NAME.",
        )


def _bare(weights: Path) -> History:
    """The history of a weights file that lies in no run: its recipe."""
    from fastfcn.weights.file import read

    return History(weights.stem, weights.parent, read(weights).recipe, {}, {}, [], None, "", {})


def _made() -> str:
    return f"Made by fastfcn {version('fastfcn')}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."
