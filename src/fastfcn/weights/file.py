"""Weights files: safetensors whose header carries the recipe and the data set's classes and colours."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import safetensors
from safetensors.torch import save_file
from torch import Tensor, nn

from fastfcn import build, recipes
from fastfcn.data.description import DataSetDescription
from fastfcn.errors import WeightsError
from fastfcn.models.segmenter import Segmenter
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.files import replace_file
from fastfcn.weights.state_dict import load_state

FORMAT = "fastfcn-weights-1"


@dataclass(frozen=True)
class Weights:
    """What a weights file holds; `facts` are figures noted when it was written, such as {"miou": 68.1}.

    `made`: when and with which versions, {"time": ISO 8601, "fastfcn": "0.1.0", "torch": ...}; older files have none.
    """

    recipe: Recipe
    description: DataSetDescription
    tensors: dict[str, Tensor]
    facts: dict
    made: dict[str, str] = field(default_factory=dict)


def save(
    path: str | Path, model: nn.Module, used: Recipe, about: DataSetDescription, facts: dict | None = None
) -> None:
    """Write the weights of `model` with recipe and classes; all or nothing. Raises OutputError."""
    header = {
        "format": FORMAT,
        "recipe": used.text,
        "dataset": about.model_dump_json(),
        "facts": json.dumps(facts or {}),
        "made": json.dumps(made()),
    }
    write_tensors(path, model.state_dict(), header)


def made() -> dict[str, str]:
    """When, and with what, as it is noted in a file that is written now."""
    versions = {name: version(name) for name in ("fastfcn", "torch", "timm")}
    return {"time": datetime.now(UTC).isoformat(timespec="seconds")} | versions


def write_tensors(path: str | Path, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
    """Write tensors with texts as their header to a safetensors file; all or nothing. Raises OutputError."""
    held = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with replace_file(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # as for any new file here; safetensors lets nobody but the owner read
        try:
            save_file(held, temporary, header)
        except safetensors.SafetensorError as error:  # such as a full disk
            raise OSError(str(error)) from error
        temporary.chmod(mode)


def read(path: str | Path) -> Weights:
    """Read a weights file; nothing in it is executed. Raises WeightsError."""
    header, tensors = read_tensors(path, FORMAT)
    try:
        about = DataSetDescription.model_validate_json(header["dataset"])
        return Weights(
            recipes.parse(header["recipe"], f"the recipe in {path}"),
            about,
            tensors,
            json.loads(header["facts"]),
            json.loads(header.get("made", "{}")),
        )
    except KeyError as error:
        raise WeightsError(*_foreign(path, None, f"its header lacks {error}")) from error
    except ValueError as error:
        raise WeightsError(*_foreign(path, None, "its header is not one that fastfcn wrote")) from error


def read_tensors(path: str | Path, form: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of a safetensors file whose header says `format = form`. Raises WeightsError."""
    if not Path(path).is_file():
        raise WeightsError(f"There is no file {path}.", "Name a weights file that `fastfcn train` or `convert` wrote.")
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != form:
                raise WeightsError(*_foreign(path, header.get("format")))
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, UnicodeDecodeError) as error:
        raise WeightsError(*_foreign(path, None, str(error))) from error


def _foreign(path: str | Path, form: str | None, reason: str = "") -> tuple[str, str]:
    if Path(path).suffix in (".pth", ".pt", ".tar"):
        return (
            f"{path} is a PyTorch checkpoint, not a weights file of fastfcn.",
            f"Convert it: fastfcn convert {path} --recipe NAME --out weights.safetensors",
        )
    detail = f"its format is {form!r}" if form else reason or "it has no fastfcn header"
    return (
        f"{path} is not a weights file of fastfcn, or is damaged: {detail}.",
        "Use the weights.safetensors of a run, or make one with `fastfcn convert`.",
    )


def load_model(held: Weights) -> Segmenter:
    """The network of a weights file in evaluation mode, on the CPU. Raises WeightsError where they do not fit."""
    model = build.network(held.recipe, len(held.description.classes))
    load_state(model, held.tensors, "the weights file")
    return model.eval()
