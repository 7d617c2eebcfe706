"""The folder of a training run (recipe, environment, label counts, log, checkpoint, weights), and its result."""

import json
import os
import platform
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import tomlkit
import torch
from torch import nn

from fastfcn import recipes
from fastfcn.errors import OutputError, RecipeError, WeightsError
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.files import make_folder, write_text
from fastfcn.utils.provenance import command, package_versions
from fastfcn.weights.file import load_state, read_tensors, write_tensors

CHECKPOINT_FORMAT = "fastfcn-checkpoint-1"


@dataclass(frozen=True)
class TrainingResult:
    """What `train` returns: where the run is, and how far it got.

    `step`: completed steps, of `steps` in the recipe; `miou`: best validation mIoU so far, in percent, measured after
    `best_step` steps; None before the first validation.
    """

    folder: Path
    step: int
    steps: int
    miou: float | None
    best_step: int

    @property
    def finished(self) -> bool:
        """False if the run was stopped (Ctrl-C, SIGTERM); continue it with `resume`."""
        return self.step == self.steps

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
        self.log = self.folder / "log.jsonl"
        self.checkpoint = self.folder / "last.ckpt"
        self.best = self.folder / "weights.safetensors"
        self.last = self.folder / "last.safetensors"
        self.report = self.folder / "report.html"

    def start(self, recipe: Recipe) -> None:
        """Create the folder and save the recipe; raises OutputError if the folder already contains a run.

        A run that failed before its first step, because of an invalid mask or missing weights, is overwritten.
        """
        if self.checkpoint.exists() or self.read_log():
            raise OutputError(
                f"{self.folder} already contains a run.", "Continue it with --resume, or choose another --out."
            )
        make_folder(self.folder)
        self.labels.unlink(missing_ok=True)
        recipe.save(self.recipe)
        description = Path(recipe.dataset)
        if description.suffix == ".toml" and description.name == recipe.data.dataset and description.is_file():
            # A recipe looks for the dataset description in its own folder.
            write_text(self.folder / description.name, description.read_text(encoding="utf-8"))

    def resume(self, recipe: Recipe) -> None:
        """Check that the folder contains a run of exactly this recipe; raises OutputError or RecipeError."""
        if not self.recipe.exists():
            raise OutputError(f"{self.folder} contains no run to resume.", "Start one without --resume.")
        changed = recipes.load(self.recipe).differences(recipe)
        if changed:
            lines = "\n".join(f"  {key}: {before} in the run, {now} in this recipe" for key, before, now in changed)
            raise RecipeError(
                f"The recipe differs from the one that {self.folder} was started with:\n{lines}",
                f"Resume with the recipe of the run: fastfcn train {self.recipe} --resume ...",
            )

    def append(self, lines: list[dict]) -> None:
        """Append lines to the log."""
        with self.log.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def read_log(self) -> list[dict]:
        """The complete lines of the log; a last line that was cut off when the process was killed is dropped."""
        if not self.log.exists():
            return []
        lines = self.log.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines if line]

    def cut_log(self, steps: int) -> None:
        """Drop the lines after step `steps`: a resumed run repeats those steps and would log them twice."""
        kept = [line for line in self.read_log() if line["step"] <= steps]
        write_text(self.log, "".join(json.dumps(line) + "\n" for line in kept))

    def save_checkpoint(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None, facts: dict
    ) -> None:
        """Write everything that resuming needs, atomically. `facts`: step and best score, as JSON values."""
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        if average:
            tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items() if value is not None}
        write_tensors(self.checkpoint, tensors, {"format": CHECKPOINT_FORMAT, "facts": json.dumps(facts)})

    def load_checkpoint(self, model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None) -> dict:
        """Load the last checkpoint into model, optimizer and average; returns its facts. Raises WeightsError."""
        header, tensors = read_tensors(self.checkpoint, CHECKPOINT_FORMAT)
        for part, prefix in ((model, "model."), (average, "average.")):
            if part:
                state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
                load_state(part, state, str(self.checkpoint))
        saved = optimizer.state_dict()
        saved["state"] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".", 2)
                saved["state"].setdefault(int(index), {})[name] = value
        optimizer.load_state_dict(saved)
        try:
            return json.loads(header["facts"])
        except (KeyError, ValueError) as error:
            raise WeightsError(f"{self.checkpoint} is corrupted: facts are missing in its header.") from error

    def write_environment(self, device: torch.device, processes: int, data: str | Path) -> None:
        """Save versions, hardware, time, command and data folder to environment.toml."""
        content = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command(),
            "data": str(Path(data).resolve()),
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
        content = tomllib.loads(self.environment.read_text(encoding="utf-8"))
        versions = content.pop("versions", {})  # a TOML table has to come after the plain keys
        added = {name: value for name, value in facts.items() if value is not None}
        write_text(self.environment, tomlkit.dumps(content | added | {"versions": versions}))
