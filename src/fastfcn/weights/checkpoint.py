"""Reads PyTorch checkpoints from untrusted sources without executing anything in them."""

import re
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastfcn.errors import MissingFileError, WeightsError

# Training state that mmengine saves with the weights. Each becomes an inert Placeholder; none of it is executed.
TRAINING_STATE = (
    "mmengine.logging.history_buffer.HistoryBuffer",
    "mmengine.logging.message_hub.MessageHub",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.ndarray",
    "numpy.dtype",
    "numpy.dtypes.Float64DType",
    "numpy.dtypes.Int64DType",
    "pathlib.PosixPath",
    "pathlib._local.PosixPath",
    "builtins.getattr",  # how HistoryBuffer refers to its methods; a placeholder looks nothing up
    "builtins.bytes",  # content of an empty array
)
# Dictionaries with attribute access; replaced by OrderedDict, the only kind the safe unpickler may fill.
DICTIONARIES = (
    "mmengine.config.config.ConfigDict",
    "mmengine.config.ConfigDict",
    "mmcv.utils.config.ConfigDict",
    "addict.addict.Dict",
)

WRAPPERS = ("state_dict", "model", "model_state_dict", "module")  # keys under which training scripts save the weights
MAX_WRAPPERS = 3  # dictionaries around the weights; a file can contain one that contains itself


class Placeholder:
    """Replaces an object that is not needed: accepts any arguments and any state, and keeps neither."""

    def __new__(cls, *_arguments: object) -> "Placeholder":
        return super().__new__(cls)

    def __init__(self, *_arguments: object):
        pass

    def __setstate__(self, _state: object) -> None:
        pass


SAFE_GLOBALS: list[Any] = [(Placeholder, name) for name in TRAINING_STATE] + [
    (OrderedDict, name) for name in DICTIONARIES
]


def read_checkpoint(path: str | Path) -> dict:
    """The dictionary in a `.pth` file, read with `weights_only=True`.

    Raises WeightsError if the file does not exist, is not a checkpoint, or contains any type other than tensors, plain
    containers and those listed above; the message names the type, which is not executed.
    """
    if not Path(path).is_file():
        raise MissingFileError(path, "Give the .pth file you downloaded or trained.")
    try:
        with torch.serialization.safe_globals(SAFE_GLOBALS), warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise almost any exception
        raise _refusal(path, error) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} contains a {type(content).__name__}, not a dictionary of weights.")
    return content


def _refusal(path: str | Path, error: Exception) -> WeightsError:
    """Explain PyTorch's error; its own message advises to load the file without protection."""
    match = re.search(r"GLOBAL (\w+(?:\.\w+)*) (?:was not|whose)", str(error))
    if match:
        return WeightsError(
            f"{path} asks for {match[1]}, which could run code; it was refused and nothing was run.",
            "Ask the author for a file with weights only.",
        )
    reason = f": {error.strerror.lower()}" if isinstance(error, OSError) and error.strerror else ""
    return WeightsError(
        f"{path} is not a PyTorch checkpoint, or is damaged{reason}.",
        "Download it again and compare its size and hash with the published ones.",
    )


def state_dict(content: dict, path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, by their plain names: under one of the usual keys, or the dictionary itself."""
    state: Any = content
    for _ in range(MAX_WRAPPERS):
        if key := next((key for key in WRAPPERS if key in state), ""):
            state = state[key] if isinstance(state[key], dict) else {}
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{path} contains no weights (keys: {', '.join(map(str, list(content)[:6]))}).")
    return plain_names(tensors)


def plain_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors without the parts of names that wrappers of a network add.

    `module.` comes from DataParallel and DistributedDataParallel, `_orig_mod.` from torch.compile.
    """
    return {re.sub(r"^(module\.)+", "", name.replace("_orig_mod.", "")): value for name, value in tensors.items()}
