"""Weights files: safetensors whose header holds the recipe and the classes of the dataset."""

import hashlib
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from math import isfinite
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fastfcn import build, recipes
from fastfcn.data.description import DatasetDescription
from fastfcn.errors import MissingFileError, WeightsError
from fastfcn.models.segmenter import Segmenter
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.files import replace_file

FORMAT = "fastfcn-weights-1"
Problem = Callable[[str | Path, str], WeightsError]  # makes the error from the path and the reason

CHECKSUM = "checksum"  # key in the header; files of earlier versions have none
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
    """Write tensors, a header of strings and a checksum of both to a safetensors file, atomically.

    The content is on the disk before the file gets its name, so that a power cut leaves the old file or the new one.
    Raises OutputError.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    header = header | {CHECKSUM: checksum(header, tensors)}
    with replace_file(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # the default for new files; safetensors makes them readable by the owner only
        try:
            save_file(tensors, temporary, header)
        except safetensors.SafetensorError as error:  # for example: no space left on the device
            raise OSError(str(error)) from error
        temporary.chmod(mode)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())


def checksum(header: dict[str, str], tensors: dict[str, Tensor]) -> str:
    """SHA-256 of header and tensors, whatever their order: names, types, shapes and values."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode("utf-8", "surrogatepass"))
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)} ".encode("utf-8", "surrogatepass"))
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"


def read(path: str | Path) -> Weights:
    """Read a weights file; nothing in it is executed. Raises WeightsError."""
    header, tensors = _read_unverified(path, FORMAT, _not_weights)
    try:
        weights = Weights(
            recipes.parse(header["recipe"], f"the recipe in {path}"),
            DatasetDescription.model_validate_json(header["dataset"]),
            tensors,
            _facts(header["facts"]),
            _made(header.get("made", "{}")),
        )
    except KeyError as error:
        raise _not_weights(path, f"its header lacks {error}") from error
    except (ValueError, RecursionError) as error:
        raise _not_weights(path, "its header was not written by fastfcn") from error
    _verify(path, header, tensors, _not_weights)
    return weights


def read_tensors(
    path: str | Path, format: str, problem: Problem | None = None
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of a safetensors file whose header says `format`; its checksum, if any, is verified.

    `problem`: the error to raise; by default, it says that the file is not a weights file.
    """
    problem = problem or _not_weights
    header, tensors = _read_unverified(path, format, problem)
    _verify(path, header, tensors, problem)
    return header, tensors


def _read_unverified(path: str | Path, format: str, problem: Problem) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not Path(path).is_file():
        raise MissingFileError(path)
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != format:
                actual = header.get("format")
                raise problem(path, f"its format is {actual!r}" if actual else "it has no fastfcn header")
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise problem(path, str(error)) from error


def _verify(path: str | Path, header: dict[str, str], tensors: dict[str, Tensor], problem: Problem) -> None:
    """Raise `problem` unless header and tensors have the checksum in the header, if it has one."""
    content = {key: value for key, value in header.items() if key != CHECKSUM}
    if header.get(CHECKSUM, "") not in ("", checksum(content, tensors)):
        raise problem(path, "its content has changed since it was written (wrong checksum)")


def _facts(text: str) -> dict:
    """The scores in a header; raises ValueError for values that are not plain. Undefined scores (NaN) are left out."""
    facts = _json_object(text)
    for name, value in facts.items():
        valid = isinstance(value, str | int | float)
        if name == "miou":
            valid = _is_number(value) and 0 <= value <= 100
        elif name == "step":
            valid = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        elif name in ("split", "converted_from"):
            valid = isinstance(value, str)
        if not valid or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"{name} is {value!r}")
    return facts


def _made(text: str) -> dict[str, str]:
    """Time and versions in a header; raises ValueError for anything else."""
    made = _json_object(text)
    if not all(isinstance(value, str) for value in made.values()):
        raise ValueError("time and versions have to be strings")
    return made


def _json_object(text: str) -> dict:
    """Parse a JSON object; NaN and infinity, which are not JSON, and null are left out."""
    value = json.loads(text, parse_constant=lambda _: None)
    if not isinstance(value, dict):
        raise ValueError(f"not an object: {type(value).__name__}")
    return {name: entry for name, entry in value.items() if entry is not None}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def load_model(weights: Weights) -> Segmenter:
    """Build the network of a weights file, in evaluation mode, on the CPU.

    Raises WeightsError if they do not match, or are not finite: the network would predict the first class everywhere.
    Shapes are compared with a network without memory first: the recipe of a file can ask for a network of any size.
    """
    check_finite(weights.tensors)
    classes, source = len(weights.description.classes), "the weights file"
    _check_shapes(_shapes(weights, classes), _renamed(weights.tensors), source)
    model = build.network(weights.recipe, classes)
    load_state(model, weights.tensors, source)
    return model.eval()


def _shapes(weights: Weights, classes: int) -> dict[str, Tensor]:
    """State dict of the network of a file's recipe, on the meta device: names and shapes without memory."""
    recipe = weights.recipe
    depth = max(getattr(part, "depth", 0) for part in (recipe.head, recipe.auxiliary))
    if depth > len(weights.tensors):  # each layer has tensors; millions of layers take memory even without them
        raise WeightsError(f"The recipe in the weights file has a head of {depth} layers, more than it has tensors.")
    try:
        with torch.device("meta"):
            return build.network(recipe, classes).state_dict()
    except (RuntimeError, OverflowError, MemoryError) as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"The network of the recipe in the weights file cannot be built: {reason}") from error


def check_finite(tensors: dict[str, Tensor]) -> None:
    """Raise WeightsError if a tensor has NaN or infinite values, or a running variance is negative."""
    broken = [name for name, tensor in tensors.items() if not _is_usable(name, tensor)]
    if broken:
        names = ", ".join(broken[:LISTED]) + (", ..." if len(broken) > LISTED else "")
        raise WeightsError(
            f"The weights cannot be used: {len(broken)} of {len(tensors)} tensors have NaN or infinite values, or "
            f"negative variances ({names}).",
            "The training diverged, or the file is damaged. Use weights of an earlier step, or the file's original.",
        )


def _is_usable(name: str, tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    low, high = tensor.float().aminmax()  # both NaN if one value is; faster than isfinite
    return isfinite(low) and isfinite(high) and not (name.endswith("running_var") and low < 0)


def load_state(model: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Load `tensors` into `model`; WeightsError lists all missing and unexpected keys and shape mismatches.

    Weights of files of version 0.1 are renamed first.
    """
    tensors = _renamed(tensors)
    _check_shapes(model.state_dict(), tensors, source)
    model.load_state_dict(tensors)


def _renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for pattern, name in RENAMED:
        tensors = {pattern.sub(name, key): value for key, value in tensors.items()}
    return tensors


def _check_shapes(state: dict[str, Tensor], tensors: dict[str, Tensor], source: str) -> None:
    """Raise WeightsError unless `tensors` have the names and shapes of a network's `state`."""
    problems = key_problems({name: tuple(value.shape) for name, value in state.items()}, tensors)
    if problems:
        raise WeightsError(
            f"{source} does not fit the network of the recipe:\n" + "\n".join(problems),
            "Use the recipe the weights were trained with: same backbone, head and dataset (number of classes).",
        )


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
