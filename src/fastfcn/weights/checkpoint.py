"""Reading PyTorch checkpoints of strangers without running anything in them."""

import re
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastfcn.errors import WeightsError

# Bookkeeping that mmengine stores beside the weights. Each becomes an inert Placeholder: nothing of it is run.
BOOKKEEPING = (
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
    "builtins.getattr",  # how HistoryBuffer names its own methods; a placeholder looks nothing up
    "builtins.bytes",  # an empty array's content
)
# Dictionaries with attributes; plain ones take their place, since only those may be filled.
DICTIONARIES = (
    "mmengine.config.config.ConfigDict",
    "mmengine.config.ConfigDict",
    "mmcv.utils.config.ConfigDict",
    "addict.addict.Dict",
)


class Placeholder:
    """Stands for an object whose content does not matter; takes any arguments and any state, and keeps neither."""

    def __new__(cls, *_arguments: object) -> "Placeholder":
        return super().__new__(cls)

    def __init__(self, *_arguments: object):
        pass

    def __setstate__(self, _state: object) -> None:
        pass


STAND_INS: list[Any] = [(Placeholder, name) for name in BOOKKEEPING] + [(OrderedDict, name) for name in DICTIONARIES]


def read_checkpoint(path: str | Path) -> dict:
    """The dictionary in a `.pth` file, read with `weights_only=True`.

    Raises WeightsError where there is no file, where it is no checkpoint, and where it asks for any type beyond
    tensors, plain containers and the bookkeeping named above; the type is named and not run.
    """
    if not Path(path).is_file():
        raise WeightsError(f"There is no file {path}.", "Name the .pth file that was downloaded or trained.")
    try:
        with torch.serialization.safe_globals(STAND_INS), warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes raise almost any kind
        raise WeightsError(*_refusal(path, error)) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not a dictionary of weights.")
    return content


def _refusal(path: str | Path, error: Exception) -> tuple[str, str]:
    """What PyTorch's error means; its own words advise to load the file without the safeguard."""
    named = re.search(r"GLOBAL (\w+(?:\.\w+)*) (?:was not|whose)", str(error))
    if named:
        return (
            f"{path} asks for {named[1]}, which could run code; it was refused and nothing was run.",
            "Only load checkpoints of people you trust; ask them for a file with nothing but weights.",
        )
    reason = f": {error.strerror.lower()}" if isinstance(error, OSError) and error.strerror else ""
    return (
        f"{path} is not a PyTorch checkpoint, or is damaged{reason}.",
        "Download it again and compare its size and hash with the publisher's.",
    )


def state_dict(content: dict, path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint: under "state_dict" or "model" where there is one, else the dictionary itself."""
    held = content.get("state_dict", content.get("model", content))
    items = held.items() if isinstance(held, dict) else ()
    tensors = {str(name).removeprefix("module."): value for name, value in items if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds no weights (keys: {', '.join(map(str, list(content)[:6]))}).")
    return tensors
