"""The folder of a training run (recipe, environment, label counts, log, checkpoint, weights), and its result."""

import os
import platform
import signal
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tomlkit
import torch

from fastfcn import recipes
from fastfcn.errors import DataError, OutputError, RecipeError
from fastfcn.recipes.recipe import Recipe
from fastfcn.training import fingerprint, run_log
from fastfcn.utils.files import make_folder, output_errors, remove_temporary_files, write_text
from fastfcn.utils.lock import locked
from fastfcn.utils.provenance import command, package_versions
from fastfcn.utils.storage import url_of
from fastfcn.utils.text import read_text

LOCK = "run.lock"
LOCK_SECONDS = 120.0  # for the lock of a process that was killed, or lost with its machine, to be released
RESUME_CODE = 75  # "run the same command again": EX_TEMPFAIL in sysexits.h


@dataclass(frozen=True)
class TrainingResult:
    """What `train` returns: where the run is, and how far it got.

    `step`: completed steps, of `steps` in the recipe; `miou`: best validation mIoU so far, in percent, measured after
    `best_step` steps; None before the first validation; `stopped_early`: whether validation ended the training;
    `stopped_by`: number of the signal that stopped it, 0 for none.
    """

    folder: Path
    step: int
    steps: int
    miou: float | None
    best_step: int
    stopped_early: bool = False
    stopped_by: int = 0

    @property
    def finished(self) -> bool:
        """False if the run was stopped (Ctrl-C, SIGTERM, SIGUSR1); continue it with `resume`."""
        return self.step == self.steps or self.stopped_early

    @property
    def exit_code(self) -> int:
        """0 if finished, RESUME_CODE if a scheduler's signal stopped the run, 130 after Ctrl-C."""
        if self.finished:
            return 0
        return 130 if self.stopped_by in (0, signal.SIGINT) else RESUME_CODE

    @property
    def weights(self) -> Path:
        """The weights file with the best validation mIoU."""
        return Run(self.folder).best

    @property
    def last_weights(self) -> Path:
        """The weights file of the last validated step."""
        return Run(self.folder).last

    def log(self) -> list[dict]:
        """The lines of log.jsonl: losses of every step (`step`, `loss`, ...) and scores (`step`, `validation`)."""
        return Run(self.folder).read_log()


class Run:
    """Paths of the files of a training run in `folder`, and how they are read and written."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.recipe = self.folder / "recipe.toml"
        self.environment = self.folder / "environment.toml"
        self.labels = self.folder / "labels.json"
        self.dataset = self.folder / "fingerprint.json"
        self.log = self.folder / "log.jsonl"
        self.checkpoint = self.folder / "last.ckpt"
        self.best = self.folder / "weights.safetensors"
        self.last = self.folder / "last.safetensors"
        self.report = self.folder / "report.html"

    @contextmanager
    def lock(self, restarted: bool = False) -> Iterator[None]:
        """Create the folder and lock it against other trainings. Raises OutputError.

        `restarted`: a scheduler may have started this process while the one before it is still ending: wait for it.
        """
        with locked(make_folder(self.folder) / LOCK, "training", LOCK_SECONDS if restarted else 0.0):
            remove_temporary_files(
                self.recipe,
                self.environment,
                self.labels,
                self.dataset,
                self.log,
                self.checkpoint,
                self.best,
                self.last,
            )
            yield

    def start(self, recipe: Recipe, dataset: dict[str, Any] | None = None) -> None:
        """Create the folder, save the recipe and the fingerprint of the dataset, if given.

        Raises OutputError if the folder already contains a run.

        A run that failed before its first step, because of an invalid mask or missing weights, is overwritten.
        """
        log = run_log.read(self.log)
        if self.checkpoint.exists() or log.lines or log.damaged:
            raise OutputError(
                f"{self.folder} already contains a run.", "Continue it with --resume, or choose another --out."
            )
        make_folder(self.folder)
        self.labels.unlink(missing_ok=True)
        recipe.save(self.recipe)
        if dataset:
            fingerprint.write(self.dataset, dataset)
        description = Path(recipe.dataset)
        if description.suffix == ".toml" and description.name == recipe.data.dataset and description.is_file():
            # A recipe looks for the dataset description in its own folder.
            write_text(self.folder / description.name, read_text(description))

    def resume(self, recipe: Recipe, dataset: dict[str, Any], accept_changed_data: bool = False) -> str:
        """Check that the run has exactly this recipe and this dataset; returns a warning, or "".

        `dataset`: its fingerprint; runs of earlier versions have none to compare. Raises RecipeError, and DataError
        unless `accept_changed_data`.
        """
        changed = recipes.load(self.recipe).differences(recipe)
        if changed:
            lines = "\n".join(f"  {key}: {before} in the run, {now} in this recipe" for key, before, now in changed)
            raise RecipeError(
                f"The recipe differs from the one that {self.folder} was started with:\n{lines}",
                f"Resume with the recipe of the run: fastfcn train {self.recipe} --resume ...",
            )
        changes = fingerprint.differences(self.dataset, dataset)
        message = f"The dataset differs from the one that {self.folder} was started with:\n{fingerprint.table(changes)}"
        if changes and not accept_changed_data:
            raise DataError(
                message, "Restore the dataset, start a new run, or continue with this one: --accept-changed-data."
            )
        if changes:
            self.labels.unlink(missing_ok=True)  # to be counted again
        fingerprint.write(self.dataset, dataset)
        return "\n".join(filter(None, (message if changes else "", self._set_aside())))

    def _set_aside(self) -> str:
        """Keep log and weights of a run whose checkpoint is gone, because it starts again; returns a warning, or ""."""
        if self.checkpoint.exists() or not (self.best.exists() or self.last.exists()):
            return ""
        kept = []
        for path in (self.log, self.best, self.last):
            if path.exists():
                kept.append(path.with_stem(f"{path.stem}_before"))
                with output_errors(path):
                    path.replace(kept[-1])
        names = ", ".join(path.name for path in kept)
        return f"{self.checkpoint} is missing: training starts again from step 0. The files so far are kept as {names}."

    def append(self, lines: list[dict]) -> None:
        """Append lines to the log. Raises OutputError."""
        run_log.append(self.log, lines)

    def read_log(self) -> list[dict]:
        """The complete and undamaged lines of the log."""
        return run_log.read(self.log).lines

    def write_environment(self, device: torch.device, processes: int, data: str | Path) -> None:
        """Save versions, hardware, time, command and data folder to environment.toml."""
        content = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command(),
            "data": url_of(data) or str(Path(data).resolve()),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "processes": processes,
            "threads": torch.get_num_threads(),
            "processors": os.cpu_count() or 0,
            "system": platform.platform(),
            "python": platform.python_version(),
            "versions": package_versions(),
        }
        write_text(self.environment, tomlkit.dumps(content))

    def note(self, **facts: float | str | None) -> None:
        """Add facts to environment.toml; None values are skipped."""
        try:
            content = tomllib.loads(self.environment.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # changed during the run, which has succeeded nevertheless
            content = {}
        versions = content.pop("versions", {})  # a TOML table has to come after the plain keys
        added = {name: value for name, value in facts.items() if value is not None}
        write_text(self.environment, tomlkit.dumps(content | added | {"versions": versions}))
