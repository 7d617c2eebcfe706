"""Training in less memory and more time: parts of the network forget their maps, and make them again later."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recompute_activations(network: Any) -> None:
    """Have each block of the backbone and neck of a Segmenter, and each head, keep its input only; in training only.

    Losses, gradients, running statistics and what dropout drops stay the same. Names of weights and copies of the
    network do, too: a part gets a class of its own, with no module around it.
    """
    heads = [part for part in (network.head, network.auxiliary) if part is not None]
    for part in [*_blocks(network.backbone), *_blocks(network.neck), *heads]:
        part.__class__ = type(type(part).__name__, (_Recomputed, type(part)), {})


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The parts inside that have parts; of rows of such parts each by itself, a stage's blocks for example."""
    for child in module.children():
        if isinstance(child, nn.Sequential | nn.ModuleList) and any(list(each.children()) for each in child):
            yield from _blocks(child)
        elif list(child.children()):
            yield child


class _Recomputed(nn.Module):
    """In front of a part's own class."""

    def forward(self, *inputs: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(*inputs)
        return checkpoint(super().forward, *inputs, use_reentrant=False, context_fn=partial(_contexts, self))


def _contexts(part: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """What the first pass runs in, and what the second runs in."""
    return nullcontext(), _statistics_kept(part)


@contextmanager
def _statistics_kept(part: nn.Module) -> Iterator[None]:
    """Batch norms move copies of their running statistics: the first pass moved the statistics themselves."""
    held = [(each, dict(each._buffers)) for each in part.modules() if isinstance(each, _BatchNorm)]
    for norm, buffers in held:
        norm._buffers.update({name: value if value is None else value.clone() for name, value in buffers.items()})
    try:
        yield
    finally:
        for norm, buffers in held:
            norm._buffers.update(buffers)
