"""A run's folder: its recipe, environment, pixels of each class, log, last checkpoint, and weights."""

import json
import os
import platform
import sys
import tomllib
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import tomlkit
import torch
from torch import nn

from fastfcn import recipes
from fastfcn.errors import OutputError, RecipeError, WeightsError
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.files import make_folder, write_text
from fastfcn.weights.file import read_tensors, write_tensors
from fastfcn.weights.state_dict import load_state

CHECKPOINT_FORMAT = "fastfcn-checkpoint-1"


class Run:
    """Paths and files of one training run in `folder`."""

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

    def start(self, used: Recipe) -> None:
        """Make the folder and write the recipe; raises OutputError where it holds a run already.

        One that stopped before its first step, over a wrong mask or missing weights, is no run yet.
        """
        if self.checkpoint.exists() or self.read_log():
            raise OutputError(
                f"{self.folder} already holds a run.", "Continue it with --resume, or choose another --out."
            )
        make_folder(self.folder)
        self.labels.unlink(missing_ok=True)
        used.save(self.recipe)
        described = Path(used.dataset)
        if described.suffix == ".toml" and described.name == used.data.dataset and described.is_file():
            # The recipe looks for it beside itself, in the run as well.
            write_text(self.folder / described.name, described.read_text(encoding="utf-8"))

    def resume(self, used: Recipe) -> None:
        """Check that the folder holds a run of this very recipe; raises OutputError or RecipeError."""
        if not self.recipe.exists():
            raise OutputError(f"{self.folder} holds no run to resume.", "Leave --resume out to start one.")
        changed = recipes.load(self.recipe).differences(used)
        if changed:
            lines = "\n".join(f"  {key}: {before} in the run, {now} asked for" for key, before, now in changed)
            raise RecipeError(
                f"The recipe is not the one that {self.folder} was started with:\n{lines}",
                f"Resume with the run's own recipe: fastfcn train {self.recipe} --resume ...",
            )

    def append(self, lines: list[dict]) -> None:
        """Add lines to the log."""
        with self.log.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def read_log(self) -> list[dict]:
        """The log's whole lines; a last line that a kill cut short is left out."""
        if not self.log.exists():
            return []
        lines = self.log.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines if line]

    def cut_log(self, steps: int) -> None:
        """Drop what was logged after the first `steps` steps, so that a resumed run logs it once."""
        kept = [line for line in self.read_log() if line["step"] <= steps]
        write_text(self.log, "".join(json.dumps(line) + "\n" for line in kept))

    def save_checkpoint(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None, facts: dict
    ) -> None:
        """Write everything a resumed run needs; all or nothing. `facts` must be JSON: step, best score."""
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        if average:
            tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items() if value is not None}
        write_tensors(self.checkpoint, tensors, {"format": CHECKPOINT_FORMAT, "facts": json.dumps(facts)})

    def load_checkpoint(self, model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None) -> dict:
        """Put the last checkpoint into model, optimizer and average; returns its facts. Raises WeightsError."""
        header, tensors = read_tensors(self.checkpoint, CHECKPOINT_FORMAT)
        for part, prefix in ((model, "model."), (average, "average.")):
            if part:
                own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
                load_state(part, own, str(self.checkpoint))
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
            raise WeightsError(f"{self.checkpoint} is damaged: no facts in its header.") from error

    def write_environment(self, device: torch.device, processes: int, data: str | Path) -> None:
        """Note versions, machine, time, command and data folder beside the results."""
        packages = ("fastfcn", "torch", "torchvision", "timm", "lightning", "numpy", "pillow")
        content = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "data": str(Path(data).resolve()),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "processes": processes,
            "threads": torch.get_num_threads(),
            "processors": os.cpu_count() or 0,
            "system": platform.platform(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in packages},
        }
        write_text(self.environment, tomlkit.dumps(content))

    def note(self, **facts: float | str | None) -> None:
        """Add what became known later to the environment; None is left out."""
        known = tomllib.loads(self.environment.read_text(encoding="utf-8"))
        versions = known.pop("versions", {})  # a table: it comes last
        added = {name: value for name, value in facts.items() if value is not None}
        write_text(self.environment, tomlkit.dumps(known | added | {"versions": versions}))
