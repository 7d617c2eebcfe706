"""TensorBoard, MLflow and Weights & Biases receive all values of a run, offline."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastfcn.errors import MissingExtraError, UserError
from fastfcn.training import loggers
from fastfcn.training.loggers import Logger, open_logger
from tests.helpers import command
from tests.helpers.tiny import NARROW, tiny_recipe, write_streets

LINES = [{"loss": 2.5, "learning_rate": 0.01}, {"loss": 1.5, "learning_rate": 0.005}, {"validation/miou": 41.0}]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run's folder, and offline loggers."""
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}.items():
        monkeypatch.setenv(name, value)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "run").mkdir()
    tiny_recipe().save(tmp_path / "run" / "recipe.toml")
    return tmp_path / "run"


def logged(name: str, run: Path, lines: list[dict], first: int = 1, failed: bool = False) -> None:
    pytest.importorskip(loggers.PACKAGES[name], reason=f"needs the extra {name!r}")
    logger: Logger = open_logger(name, run, run / "recipe.toml")
    for step, values in enumerate(lines, first):
        logger.log(values, step)
    logger.close(failed)


def test_tensorboard(run: Path):
    logged("tensorboard", run, LINES)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(run / "tensorboard")).Reload()
    assert [(point.step, point.value) for point in read.Scalars("loss")] == [(1, 2.5), (2, 1.5)]
    assert [(point.step, point.value) for point in read.Scalars("validation/miou")] == [(3, 41.0)]


def test_mlflow(run: Path):
    logged("mlflow", run, LINES[:2])
    logged("mlflow", run, LINES[2:], first=3, failed=True)  # resumed: the same run is continued
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(run / "mlruns").as_uri())
    [mlflow_run] = client.search_runs([client.get_experiment_by_name("fastfcn").experiment_id])
    history = client.get_metric_history(mlflow_run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.5), (2, 1.5)]
    assert mlflow_run.data.metrics["validation/miou"] == 41.0
    assert mlflow_run.data.params["optim.steps"] == "4"
    assert (mlflow_run.info.run_name, mlflow_run.info.status) == ("run", "FAILED")


def test_weights_and_biases(run: Path):
    wandb = pytest.importorskip("wandb", reason="needs the extra 'wandb'")
    logger = open_logger("wandb", run, run / "recipe.toml")
    try:
        for step, values in enumerate([*LINES, {"loss": 1.25}], 1):
            logger.log(values, step)  # a step is complete once the next one begins
        own = wandb.run
        assert own.config["optim.steps"] == "4"
        assert own.name == "run"
        assert own.summary["loss"] == 1.5
        assert own.summary["validation/miou"] == 41.0
        assert json.loads((run / "loggers.json").read_text()) == {"wandb": own.id}
    finally:
        logger.close(failed=False)
    wandb.teardown()  # its own process writes the file, at the latest when it ends
    [file] = (run / "wandb").glob(f"offline-run-*/run-{own.id}.wandb")
    assert b"validation/miou" in file.read_bytes()


def test_an_unknown_logger_or_one_that_is_not_installed(run: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match="Unknown logger 'tensorbord'") as error:
        open_logger("tensorbord", run, run / "recipe.toml")
    assert "tensorboard, mlflow, wandb" in error.value.hint
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    for name in loggers.PACKAGES:
        with pytest.raises(MissingExtraError, match=rf"fastfcn\[{name}\]"):
            open_logger(name, run, run / "recipe.toml")


def test_training_logs_to_several(run: Path, tmp_path: Path):
    for name in ("tensorboard", "mlflow"):
        pytest.importorskip(name, reason=f"needs the extra {name!r}")
    streets, out = write_streets(tmp_path / "streets", 4, 2), tmp_path / "new"
    machine = ("--data", streets, "--out", out, "--accelerator", "cpu", "--workers", "0")
    done = command.fastfcn("train", "demo", *NARROW, "optim.steps=2", "eval.every=2", *machine,
                           "--log", "tensorboard", "--log", "mlflow")  # fmt: skip
    assert done.code == 0, done
    assert list((out / "tensorboard").glob("events*"))
    from mlflow.tracking import MlflowClient

    [run_id] = json.loads((out / "loggers.json").read_text()).values()
    mlflow_run = MlflowClient(tracking_uri=(out / "mlruns").as_uri()).get_run(run_id)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert mlflow_run.info.status == "FINISHED"
    assert mlflow_run.data.metrics["loss"] == next(line["loss"] for line in reversed(lines) if "loss" in line)
    [scores] = [line["validation"] for line in lines if "validation" in line]
    assert mlflow_run.data.metrics["validation/miou"] == scores["miou"]


def test_a_wrong_name_is_known_before_the_work(run: Path, tmp_path: Path):
    done = command.fastfcn("train", "demo", "--data", tmp_path, "--out", tmp_path / "new", "--log", "comet")
    assert done.code == 2
    assert "'comet'" in done.err
    assert not (tmp_path / "new").exists()
