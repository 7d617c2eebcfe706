"""Headers of weights files: recipe, classes, scores and checksum; read and verified without PyTorch."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import safetensors

from fastfcn import recipes
from fastfcn.data.description import DatasetDescription
from fastfcn.errors import MissingFileError, WeightsError
from fastfcn.recipes.recipe import Recipe

FORMAT = "fastfcn-weights-1"
CHECKSUM = "checksum"  # key in the header; files of earlier versions have none
# Types as safetensors and torch write them.
TORCH_TYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
    "U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip

Problem = Callable[[str | Path, str], WeightsError]  # makes the error from the path and the reason
Shapes = dict[str, tuple[int, ...]]  # name of a tensor -> shape


class TensorBytes(NamedTuple):
    """The content of a tensor; `dtype` is written as torch writes it, such as "torch.float32"."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview


@dataclass(frozen=True)
class Header:
    """What a weights file says of its tensors.

    `facts`: scores saved with it, such as {"miou": 68.1} in percent; `made`: time and versions, {"time": ISO 8601,
    "fastfcn": "0.1.0", "torch": ...}, empty for files of older versions.
    """

    recipe: Recipe
    description: DatasetDescription
    facts: dict
    made: dict[str, str] = field(default_factory=dict)


def provenance() -> dict[str, str]:
    """The current time and the installed versions, as they are saved in a file."""
    versions = {name: version(name) for name in ("fastfcn", "torch", "timm")}
    return {"time": datetime.now(UTC).isoformat(timespec="seconds")} | versions


def read_header(path: str | Path) -> tuple[Header, Shapes]:
    """The header and the shapes of the tensors of a weights file, whose checksum is verified. Raises WeightsError."""
    with open_tensors(path, "numpy", FORMAT, not_weights) as file:
        strings = file.metadata()
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in sorted(file.keys())}
    header = parse_header(strings, path)
    verify(path, strings, _tensor_bytes(Path(path)), not_weights)
    return header, shapes


def parse_strings(strings: Mapping[str, str], path: str | Path) -> Header:
    """Parse the strings of a weights file or an exported file; raises KeyError, ValueError or RecursionError."""
    return Header(
        recipes.parse(strings["recipe"], f"the recipe in {path}"),
        DatasetDescription.model_validate_json(strings["dataset"]),
        _facts(strings["facts"]),
        _made(strings.get("made", "{}")),
    )


def parse_header(strings: Mapping[str, str], path: str | Path) -> Header:
    """Validate the strings in the header of a weights file. Raises WeightsError."""
    try:
        return parse_strings(strings, path)
    except KeyError as error:
        raise not_weights(path, f"its header lacks {error}") from error
    except (ValueError, RecursionError) as error:
        raise not_weights(path, "its header was not written by fastfcn") from error


@contextmanager
def open_tensors(path: str | Path, framework: str, format: str, problem: Problem) -> Iterator[Any]:
    """Open a safetensors file whose header says `format`; raises `problem` if it is another file or damaged."""
    if Path(path).is_dir():
        if problem is not not_weights:
            raise problem(path, "it is a folder")
        raise WeightsError(f"{path} is a folder.", f"Give a file in it, such as {Path(path) / 'weights.safetensors'}.")
    if not Path(path).is_file():
        raise MissingFileError(path)
    try:
        with safetensors.safe_open(str(path), framework=framework) as file:
            actual = (file.metadata() or {}).get("format")
            if actual != format:
                raise problem(path, f"its format is {actual!r}" if actual else "it has no fastfcn header")
            yield file
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise problem(path, str(error)) from error


def verify(path: str | Path, strings: dict[str, str], tensors: Iterable[TensorBytes], problem: Problem) -> None:
    """Raise `problem` unless header and tensors have the checksum in the header, if it has one."""
    content = {key: value for key, value in strings.items() if key != CHECKSUM}
    if strings.get(CHECKSUM, "") not in ("", checksum(content, tensors)):
        raise problem(path, "its content has changed since it was written (wrong checksum)")


def checksum(strings: dict[str, str], tensors: Iterable[TensorBytes]) -> str:
    """SHA-256 of header and tensors: names, types, shapes and values; `tensors` must be sorted by name."""
    digest = hashlib.sha256(json.dumps(strings, sort_keys=True).encode("utf-8", "surrogatepass"))
    for name, dtype, shape, data in tensors:
        digest.update(f"{name} {dtype} {list(shape)} ".encode("utf-8", "surrogatepass"))
        digest.update(data)
    return f"sha256:{digest.hexdigest()}"


def not_weights(path: str | Path, reason: str) -> WeightsError:
    """The error for a file that is not a weights file, with the reason."""
    if Path(path).suffix in (".pth", ".pt", ".tar"):
        return WeightsError(
            f"{path} is a PyTorch checkpoint, not a weights file of fastfcn.",
            f"Convert it: fastfcn convert {path} --recipe NAME --out weights.safetensors",
        )
    return WeightsError(
        f"{path} is not a weights file of fastfcn, or is damaged: {reason}.",
        "Use the weights.safetensors of a run, or convert a checkpoint with `fastfcn convert`.",
    )


def _tensor_bytes(path: Path) -> Iterator[TensorBytes]:
    """The tensors of a valid safetensors file, one after another, sorted by name."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(length))
        entries.pop("__metadata__", None)
        for name, entry in sorted(entries.items()):
            start, end = entry["data_offsets"]
            file.seek(8 + length + start)
            dtype = TORCH_TYPES.get(entry["dtype"], entry["dtype"])
            yield TensorBytes(name, f"torch.{dtype}", tuple(entry["shape"]), file.read(end - start))


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
