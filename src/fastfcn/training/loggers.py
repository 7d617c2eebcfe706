"""TensorBoard, MLflow and Weights & Biases: each gets the figures of a run while it goes."""

import json
import os
import time
import tomllib
import uuid
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from fastfcn.errors import MissingExtraError, UserError
from fastfcn.recipes.validation import flatten
from fastfcn.utils.files import write_text

PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}  # also the names of the extras
PROJECT = "fastfcn"


class Logger(Protocol):
    """Takes figures by name, and is told at the end whether the run failed."""

    def log(self, values: Mapping[str, float], step: int) -> None: ...
    def close(self, failed: bool) -> None: ...


def check_loggers(names: Sequence[str]) -> None:
    """Raise UserError for an unknown name and MissingExtraError for one whose package is not installed."""
    for name in names:
        if name not in PACKAGES:
            raise UserError(f"There is no logger {name!r}.", f"Choose of {', '.join(PACKAGES)}.")
        if find_spec(PACKAGES[name]) is None:
            raise MissingExtraError(PACKAGES[name], name, f"--log {name}")


def open_logger(name: str, folder: Path, recipe: Path) -> Logger:
    """The logger of that name for the run in `folder`; a resumed run goes on in the same place.

    `recipe`: the run's recipe, whose values are noted with it. Raises what `check_loggers` raises.
    """
    check_loggers([name])
    match name:
        case "tensorboard":
            return TensorBoard(folder)
        case "mlflow":
            return MLflow(folder, _settings(recipe))
        case _:
            return WeightsAndBiases(folder, _settings(recipe))


class TensorBoard:
    """Files in `folder`/tensorboard: tensorboard --logdir FOLDER."""

    def __init__(self, folder: Path):
        from lightning.fabric.loggers.tensorboard import TensorBoardLogger

        self.board = TensorBoardLogger(root_dir=folder, name="tensorboard", version="")

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.board.log_metrics(dict(values), step)

    def close(self, failed: bool) -> None:
        self.board.finalize("failed" if failed else "success")


class MLflow:
    """The server in MLFLOW_TRACKING_URI, else files in `folder`/mlruns; experiment MLFLOW_EXPERIMENT_NAME."""

    def __init__(self, folder: Path, settings: dict[str, str]):
        # MLflow 3 asks for this word before it writes files, the one place that needs neither server nor database.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self.metric = Metric
        place = os.environ.get("MLFLOW_TRACKING_URI") or (folder.resolve() / "mlruns").as_uri()
        self.client = MlflowClient(tracking_uri=place)
        known = _known(folder, "mlflow")
        if known:
            self.run = known
            self.client.update_run(self.run, status="RUNNING")
            return
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self.client.get_experiment_by_name(experiment)
        number = found.experiment_id if found else self.client.create_experiment(experiment)
        self.run = self.client.create_run(number, run_name=folder.name).info.run_id
        self.client.log_batch(self.run, params=[Param(key, value) for key, value in settings.items()])
        _remember(folder, "mlflow", self.run)

    def log(self, values: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        metrics = [self.metric(name, float(value), now, step) for name, value in values.items()]
        self.client.log_batch(self.run, metrics=metrics)

    def close(self, failed: bool) -> None:
        self.client.set_terminated(self.run, "FAILED" if failed else "FINISHED")


class WeightsAndBiases:
    """The project WANDB_PROJECT, else `fastfcn`; WANDB_MODE=offline writes into `folder`/wandb alone."""

    def __init__(self, folder: Path, settings: dict[str, str]):
        import wandb

        name = _known(folder, "wandb") or uuid.uuid4().hex[:8]
        try:
            self.run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT), name=folder.name, id=name, resume="allow",
                dir=folder.resolve(), config=settings, settings=wandb.Settings(console="off", silent=True),
            )  # fmt: skip
        except wandb.Error as error:
            hint = "Log in: `wandb login`; or log here alone: WANDB_MODE=offline."
            raise UserError(f"Weights & Biases cannot be used: {error}", hint) from error
        _remember(folder, "wandb", name)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def close(self, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))


def _settings(recipe: Path) -> dict[str, str]:
    """The recipe's values by their full names, as the loggers show them beside the curves."""
    values = flatten(tomllib.loads(recipe.read_text(encoding="utf-8")))
    return {key: str(value) for key, value in values.items() if not key.startswith("published.") and str(value)}


def _known(folder: Path, name: str) -> str | None:
    """By what name the logger knows this run, from an earlier start."""
    file = folder / "loggers.json"
    return json.loads(file.read_text(encoding="utf-8")).get(name) if file.exists() else None


def _remember(folder: Path, name: str, run: str) -> None:
    file = folder / "loggers.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    write_text(file, json.dumps(known | {name: run}, indent=1) + "\n")
