"""Weights files: safetensors whose header holds the recipe and the classes of the dataset."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fastfcn import build
from fastfcn.data.description import DatasetDescription
from fastfcn.errors import WeightsError
from fastfcn.models.segmenter import Segmenter
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.files import replace_file
from fastfcn.weights.header import (
    CHECKSUM,
    FORMAT,
    Problem,
    TensorBytes,
    checksum,
    not_weights,
    open_tensors,
    parse_header,
    provenance,
    verify,
)

LISTED = 8  # keys of each kind in an error message
# Names of parameters in files of version 0.1, and what they are now.
RENAMED = ((re.compile(r"(^|\.)head\.presence\."), r"\1head.se_layer."),)


@dataclass(frozen=True)
class Weights:
    """The content of a weights file: its header (see `Header`) and `tensors`, the state dict of the network."""

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


def write_tensors(path: str | Path, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
    """Write tensors, a header of strings and a checksum of both to a safetensors file, atomically.

    The content is on the disk before the file gets its name, so that a power cut leaves the old file or the new one.
    Raises OutputError.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    header = header | {CHECKSUM: checksum(header, tensor_bytes(tensors))}
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


def tensor_bytes(tensors: dict[str, Tensor]) -> Iterator[TensorBytes]:
    """The content of tensors on the CPU, sorted by name, as `checksum` needs it."""
    for name, value in sorted(tensors.items()):
        data = value.reshape(-1).view(torch.uint8).numpy().data
        yield TensorBytes(name, str(value.dtype), tuple(value.shape), data)


def read(path: str | Path) -> Weights:
    """Read a weights file; nothing in it is executed. Raises WeightsError."""
    strings, tensors = _read_unverified(path, FORMAT, not_weights)
    header = parse_header(strings, path)
    verify(path, strings, tensor_bytes(tensors), not_weights)
    return Weights(header.recipe, header.description, tensors, header.facts, header.made)


def read_tensors(
    path: str | Path, format: str, problem: Problem | None = None
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of a safetensors file whose header says `format`; its checksum, if any, is verified.

    `problem`: the error to raise; by default, it says that the file is not a weights file.
    """
    problem = problem or not_weights
    strings, tensors = _read_unverified(path, format, problem)
    verify(path, strings, tensor_bytes(tensors), problem)
    return strings, tensors


def _read_unverified(path: str | Path, format: str, problem: Problem) -> tuple[dict[str, str], dict[str, Tensor]]:
    with open_tensors(path, "pt", format, problem) as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def load_model(weights: Weights) -> Segmenter:
    """Build the network of a weights file, in evaluation mode, on the CPU.

    Raises WeightsError if they do not match, or are not finite: the network would predict the first class everywhere.
    Shapes are compared with a network without memory first: the recipe of a file can ask for a network of any size.
    """
    check_finite(weights.tensors)
    classes, source = len(weights.description.classes), "the weights file"
    _check_shapes(_shapes(weights, classes), current_names(weights.tensors), source)
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
    tensors = current_names(tensors)
    _check_shapes(model.state_dict(), tensors, source)
    model.load_state_dict(tensors)


def current_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file of any version by their names in the current one."""
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
