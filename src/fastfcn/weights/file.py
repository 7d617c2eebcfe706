"""Weights files: safetensors whose header holds the recipe and the classes of the dataset."""

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import safetensors
from safetensors.torch import save_file
from torch import Tensor, nn

from fastfcn import build, recipes
from fastfcn.data.description import DatasetDescription
from fastfcn.errors import MissingFileError, WeightsError
from fastfcn.models.segmenter import Segmenter
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.files import replace_file

FORMAT = "fastfcn-weights-1"
LISTED = 8  # keys of each kind in an error message
# Names of parameters in files of version 0.1, and what they are now.
RENAMED = ((re.compile(r"(^|\.)head\.presence\."), r"\1head.se_layer."),)


@dataclass(frozen=True)
class Weights:
    """The content of a weights file.

    `tensors`: the state dict of the network; `facts`: scores saved with it, such as {"miou": 68.1} in percent;
    `made`: time and versions, {"time": ISO 8601, "fastfcn": "0.1.0", "torch": ...}, empty for files of older versions.
    """

    recipe: Recipe
    description: DatasetDescription
    tensors: dict[str, Tensor]
    facts: dict
    made: dict[str, str] = field(default_factory=dict)


def save(
    path: str | Path, model: nn.Module, recipe: Recipe, description: DatasetDescription, facts: dict | None = None
) -> None:
    """Write the weights of `model` with its recipe and classes, atomically. Raises OutputError."""
    header = {
        "format": FORMAT,
        "recipe": recipe.text,
        "dataset": description.model_dump_json(),
        "facts": json.dumps(facts or {}),
        "made": json.dumps(provenance()),
    }
    write_tensors(path, model.state_dict(), header)


def provenance() -> dict[str, str]:
    """The current time and the installed versions, as they are saved in a file."""
    versions = {name: version(name) for name in ("fastfcn", "torch", "timm")}
    return {"time": datetime.now(UTC).isoformat(timespec="seconds")} | versions


def write_tensors(path: str | Path, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
    """Write tensors and a header of strings to a safetensors file, atomically. Raises OutputError."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with replace_file(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # the default for new files; safetensors makes them readable by the owner only
        try:
            save_file(tensors, temporary, header)
        except safetensors.SafetensorError as error:  # for example: no space left on the device
            raise OSError(str(error)) from error
        temporary.chmod(mode)


def read(path: str | Path) -> Weights:
    """Read a weights file; nothing in it is executed. Raises WeightsError."""
    header, tensors = read_tensors(path, FORMAT)
    try:
        description = DatasetDescription.model_validate_json(header["dataset"])
        return Weights(
            recipes.parse(header["recipe"], f"the recipe in {path}"),
            description,
            tensors,
            json.loads(header["facts"]),
            json.loads(header.get("made", "{}")),
        )
    except KeyError as error:
        raise _not_weights(path, f"its header lacks {error}") from error
    except ValueError as error:
        raise _not_weights(path, "its header was not written by fastfcn") from error


def read_tensors(path: str | Path, format: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of a safetensors file; WeightsError if its header does not say `format`."""
    if not Path(path).is_file():
        raise MissingFileError(path)
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != format:
                actual = header.get("format")
                raise _not_weights(path, f"its format is {actual!r}" if actual else "it has no fastfcn header")
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, UnicodeDecodeError) as error:
        raise _not_weights(path, str(error)) from error


def load_model(weights: Weights) -> Segmenter:
    """Build the network of a weights file, in evaluation mode, on the CPU. Raises WeightsError if they do not match."""
    model = build.network(weights.recipe, len(weights.description.classes))
    load_state(model, weights.tensors, "the weights file")
    return model.eval()


def load_state(model: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Load `tensors` into `model`; WeightsError lists all missing and unexpected keys and shape mismatches.

    Weights of files of version 0.1 are renamed first.
    """
    for pattern, name in RENAMED:
        tensors = {pattern.sub(name, key): value for key, value in tensors.items()}
    problems = key_problems({name: tuple(value.shape) for name, value in model.state_dict().items()}, tensors)
    if problems:
        raise WeightsError(
            f"{source} does not fit the network of the recipe:\n" + "\n".join(problems),
            "Use the recipe the weights were trained with: same backbone, head and dataset (number of classes).",
        )
    model.load_state_dict(tensors)


def key_problems(shapes: dict[str, tuple[int, ...]], tensors: dict[str, Tensor]) -> list[str]:
    """Compare `tensors` with the `shapes` of a network: one line per problem, the first 8 of each kind."""
    mismatched = [
        f"  wrong shape: {name} is {list(tensors[name].shape)}, the network has {list(shape)}"
        for name, shape in shapes.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    missing = [f"  missing: {name} {list(shape)}" for name, shape in shapes.items() if name not in tensors]
    extra = [
        f"  not in the network: {name} {list(value.shape)}" for name, value in tensors.items() if name not in shapes
    ]
    return [line for lines in (mismatched, missing, extra) for line in _shorten(lines)]


def _shorten(lines: list[str]) -> list[str]:
    return lines[:LISTED] + ([f"  ... and {len(lines) - LISTED} more"] if len(lines) > LISTED else [])


def _not_weights(path: str | Path, reason: str) -> WeightsError:
    if Path(path).suffix in (".pth", ".pt", ".tar"):
        return WeightsError(
            f"{path} is a PyTorch checkpoint, not a weights file of fastfcn.",
            f"Convert it: fastfcn convert {path} --recipe NAME --out weights.safetensors",
        )
    return WeightsError(
        f"{path} is not a weights file of fastfcn, or is damaged: {reason}.",
        "Use the weights.safetensors of a run, or convert a checkpoint with `fastfcn convert`.",
    )
