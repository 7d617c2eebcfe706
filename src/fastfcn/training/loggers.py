"""TensorBoard, MLflow and Weights & Biases as loggers of a training run."""

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
    """Receives values by name during the run, and at the end whether it failed."""

    def log(self, values: Mapping[str, float], step: int) -> None: ...
    def close(self, failed: bool) -> None: ...


def check_loggers(names: Sequence[str]) -> None:
    """Raise UserError for an unknown name and MissingExtraError for one whose package is not installed."""
    for name in names:
        if name not in PACKAGES:
            raise UserError(f"Unknown logger {name!r}.", f"Choose one of {', '.join(PACKAGES)}.")
        if find_spec(PACKAGES[name]) is None:
            raise MissingExtraError(PACKAGES[name], name, f"--log {name}")


def open_logger(name: str, folder: Path, recipe: Path) -> Logger:
    """Open the logger `name` for the run in `folder`; a resumed run continues its earlier record.

    `recipe`: path of the run's recipe, whose values are logged as parameters. Raises as `check_loggers` does.
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
    """Writes to `folder`/tensorboard; view it with: tensorboard --logdir FOLDER."""

    def __init__(self, folder: Path):
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger

        self.board = TensorBoardLogger(root_dir=folder, name="tensorboard", version="")

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.board.log_metrics(dict(values), step)

    def close(self, failed: bool) -> None:
        self.board.finalize("failed" if failed else "success")


class MLflow:
    """Logs to the server MLFLOW_TRACKING_URI (default: files in `folder`/mlruns), experiment MLFLOW_EXPERIMENT_NAME."""

    def __init__(self, folder: Path, settings: dict[str, str]):
        # MLflow 3 requires this variable for its file store, the only store without a server or database.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self.metric = Metric
        uri = os.environ.get("MLFLOW_TRACKING_URI") or (folder.resolve() / "mlruns").as_uri()
        self.client = MlflowClient(tracking_uri=uri)
        earlier = _saved_id(folder, "mlflow")
        if earlier:
            self.run = earlier
            self.client.update_run(self.run, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self.client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else self.client.create_experiment(name)
        self.run = self.client.create_run(experiment_id, run_name=folder.name).info.run_id
        self.client.log_batch(self.run, params=[Param(key, value) for key, value in settings.items()])
        _save_id(folder, "mlflow", self.run)

    def log(self, values: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        metrics = [self.metric(name, float(value), now, step) for name, value in values.items()]
        self.client.log_batch(self.run, metrics=metrics)

    def close(self, failed: bool) -> None:
        self.client.set_terminated(self.run, "FAILED" if failed else "FINISHED")


class WeightsAndBiases:
    """Logs to the project WANDB_PROJECT (default: fastfcn); with WANDB_MODE=offline only to `folder`/wandb."""

    def __init__(self, folder: Path, settings: dict[str, str]):
        import wandb

        run_id = _saved_id(folder, "wandb") or uuid.uuid4().hex[:8]
        try:
            self.run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT), name=folder.name, id=run_id, resume="allow",
                dir=folder.resolve(), config=settings, settings=wandb.Settings(console="off", silent=True),
            )  # fmt: skip
        except wandb.Error as error:
            hint = "Log in with `wandb login`, or log to local files only: WANDB_MODE=offline."
            raise UserError(f"Weights & Biases failed to start: {error}", hint) from error
        _save_id(folder, "wandb", run_id)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def close(self, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))


def _settings(recipe: Path) -> dict[str, str]:
    """The values of the recipe by dotted key, as parameters for the loggers."""
    values = flatten(tomllib.loads(recipe.read_text(encoding="utf-8")))
    return {key: str(value) for key, value in values.items() if not key.startswith("published.") and str(value)}


def _saved_ids(folder: Path) -> dict[str, str]:
    """Logger name -> its id of this run, saved when the run started."""
    file = folder / "loggers.json"
    if not file.exists():
        return {}
    try:
        ids = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        ids = None
    if not isinstance(ids, dict) or not all(isinstance(run_id, str) for run_id in ids.values()):
        raise UserError(f"{file} is damaged.", f"Remove {file}; the loggers then start new records.")
    return ids


def _saved_id(folder: Path, name: str) -> str | None:
    return _saved_ids(folder).get(name)


def _save_id(folder: Path, name: str, run_id: str) -> None:
    write_text(folder / "loggers.json", json.dumps(_saved_ids(folder) | {name: run_id}, indent=1) + "\n")
