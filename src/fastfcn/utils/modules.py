"""Changing what a module computes while its weights stay the same, in one place: assignment to `__class__`.

A wrapper around the module would put a prefix before the names in its state dict, and a new module would lose hooks,
references from elsewhere (optimizers, shared modules) and, for timm's classes, everything their constructors decide.
With a new class over the same attributes, names of weights, `copy.deepcopy` and identity work as before.
"""

from typing import Any

import torch
from torch import nn


def change_class(module: nn.Module, new: type[nn.Module]) -> None:
    """Give `module` the class `new`, in place. `new` must need no attributes that `module` does not have."""
    module.__class__ = new


def add_base_class(module: nn.Module, base: type[nn.Module], **attributes: Any) -> None:
    """Put the methods of `base` before those of the module's own class, in place; `super()` in them reaches the latter.

    The new class has the name of the old one, and `attributes` as class attributes.
    """
    change_class(module, type(type(module).__name__, (base, type(module)), attributes))


def to_channels_last(module: nn.Module) -> None:
    """Convert all weights and buffers with four axes, in place. `Module.to` fails if some have five."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
