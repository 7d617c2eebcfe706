"""Weights: the file format, checkpoint conversion, pretrained weights, and the Hugging Face Hub.

The names below come from `weights.file` on first use, so that modules which only read headers do not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastfcn.weights.file import Weights, load_model, read, read_tensors, save, write_tensors

__all__ = ["Weights", "load_model", "read", "read_tensors", "save", "write_tensors"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'fastfcn.weights' has no attribute {name!r}")
    return getattr(import_module("fastfcn.weights.file"), name)
