"""Exponential moving average (EMA) of the weights, which often scores better than the weights of the last step."""

from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class MovingAverage(AveragedModel):
    """A copy of `network`; `update_parameters(network)` moves its weights towards the current ones.

    At update t the decay is min(`decay`, (1 + t) / (10 + t)), as in TensorFlow's ExponentialMovingAverage with
    `num_updates`, so that the random initial weights are soon forgotten. `decay`: 0-1. Running statistics of batch
    norms are averaged too; integer buffers are copied.
    """

    n_averaged: Tensor  # on the CPU; torch's update copies it to the GPU and back, and waits for that

    def __init__(self, network: nn.Module, decay: float):
        super().__init__(network, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        updates = int(self.n_averaged)
        share = 1 - min(self.decay, (1 + updates) / (10 + updates))
        moved: list[tuple[Tensor, Tensor]] = []
        for average, current in zip(_tensors(self.module), _tensors(model), strict=True):
            if updates and average.is_floating_point():
                moved.append((average, current))
            else:
                average.copy_(current)
        if moved:
            averages, weights = zip(*moved, strict=True)
            torch._foreach_lerp_(averages, weights, share)  # type: ignore[reportPrivateImportUsage]
        self.n_averaged += 1


def _tensors(network: nn.Module) -> chain[Tensor]:
    return chain(network.parameters(), network.buffers())
