"""Activation checkpointing: blocks keep only their input and recompute their activations in the backward pass."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from fastfcn.utils.modules import add_base_class


def recompute_activations(network: Any) -> None:
    """Checkpoint each block of the backbone and neck of a Segmenter, and each head, in place; in training mode only.

    Losses, gradients, running statistics and dropout masks stay the same, and so do the names of weights and copies of
    the network.
    """
    heads = [head for head in (network.head, network.auxiliary) if head is not None]
    for block in [*_blocks(network.backbone), *_blocks(network.neck), *heads]:
        add_base_class(block, _Recomputed)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Children that have children themselves; of a Sequential of blocks, such as a ResNet's stage, each block."""
    for child in module.children():
        if isinstance(child, nn.Sequential | nn.ModuleList) and any(list(block.children()) for block in child):
            yield from _blocks(child)
        elif list(child.children()):
            yield child


class _Recomputed(nn.Module):
    """Base class that checkpoints the forward pass of the class after it."""

    def forward(self, *inputs: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(*inputs)
        return checkpoint(super().forward, *inputs, use_reentrant=False, context_fn=partial(_contexts, self))


def _contexts(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """Context managers of the first forward pass and of the recomputation."""
    return nullcontext(), _running_statistics_kept(block)


@contextmanager
def _running_statistics_kept(block: nn.Module) -> Iterator[None]:
    """Batch norms update copies of their running statistics: the first pass has already updated the originals."""
    originals = [(norm, dict(norm._buffers)) for norm in block.modules() if isinstance(norm, _BatchNorm)]
    for norm, buffers in originals:
        norm._buffers.update({name: value if value is None else value.clone() for name, value in buffers.items()})
    try:
        yield
    finally:
        for norm, buffers in originals:
            norm._buffers.update(buffers)
