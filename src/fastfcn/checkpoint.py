"""Reading PyTorch checkpoints of strangers without running anything in them."""

import pickle
import re
from pathlib import Path

import torch
from torch import Tensor

from fastfcn.errors import WeightsError

# Bookkeeping that mmengine stores beside the weights. Each becomes an inert Placeholder: nothing of it is run.
BOOKKEEPING = (
    "mmengine.logging.history_buffer.HistoryBuffer",
    "mmengine.logging.message_hub.MessageHub",
    "mmengine.config.config.ConfigDict",
    "mmengine.config.ConfigDict",
    "mmcv.utils.config.ConfigDict",
    "addict.addict.Dict",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.ndarray",
    "numpy.dtype",
    "numpy.dtypes.Float64DType",
    "numpy.dtypes.Int64DType",
    "_codecs.encode",
    "collections.deque",
    "pathlib.PosixPath",
    "__builtin__.getattr",  # how HistoryBuffer names its own methods; a placeholder looks nothing up
    "builtins.getattr",
    "builtins.bytes",  # an empty array
)


class Placeholder:
    """Stands for an object whose content does not matter; takes any arguments and any state, and keeps neither."""

    def __new__(cls, *_arguments: object) -> "Placeholder":
        return super().__new__(cls)

    def __init__(self, *_arguments: object):
        pass

    def __setstate__(self, _state: object) -> None:
        pass

    def append(self, _item: object) -> None:
        """A deque's items come one by one."""

    def extend(self, _items: object) -> None:
        """Or all at once."""


def _placeholder(name: str) -> tuple[type, str]:
    # One class each: the unpickler keeps a table from class to name.
    return type("Placeholder", (Placeholder,), {}), name


PLACEHOLDERS = [_placeholder(name) for name in BOOKKEEPING]


def read_checkpoint(path: str | Path) -> dict:
    """The dictionary in a `.pth` file, read with `weights_only=True`.

    Raises WeightsError where there is no file, where it is no checkpoint, and where it asks for any type beyond
    tensors, plain containers and the bookkeeping named above; the type is named and not run.
    """
    if not Path(path).is_file():
        raise WeightsError(f"There is no file {path}.", "Name the .pth file that was downloaded or trained.")
    try:
        with torch.serialization.safe_globals(PLACEHOLDERS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(*_refusal(path, str(error))) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, AttributeError, TypeError) as error:
        raise WeightsError(
            f"{path} is not a PyTorch checkpoint, or is damaged: {str(error).splitlines()[0]}",
            "Download it again and compare its size and hash with the publisher's.",
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not a dictionary of weights.")
    return content


def _refusal(path: str | Path, error: str) -> tuple[str, str]:
    named = re.search(r"(?:GLOBAL\s+`?([\w.]+)|(?:global|function|class|type)\s+`?([\w.]+\.[\w.]+))", error)
    if named:
        return (
            f"{path} asks for {named[1] or named[2]}, which could run code; it was refused and nothing was run.",
            "Only load checkpoints of people you trust; ask them for a file with nothing but weights.",
        )
    return f"{path} is not a PyTorch checkpoint, or is damaged: {error.splitlines()[0]}", "Download it again."


def state_dict(content: dict, path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint: under "state_dict" or "model" where there is one, else the dictionary itself."""
    held = content.get("state_dict", content.get("model", content))
    tensors = {name: value for name, value in held.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds no weights (keys: {', '.join(map(str, list(content)[:6]))}).")
    return {name.removeprefix("module."): value for name, value in tensors.items()}
