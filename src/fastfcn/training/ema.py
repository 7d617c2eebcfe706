"""Exponential moving average (EMA) of the weights, which often scores better than the weights of the last step."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of `network`; `update_parameters(network)` moves its weights towards the current ones.

    At update t the decay is min(`decay`, (1 + t) / (10 + t)), as in TensorFlow's ExponentialMovingAverage with
    `num_updates`, so that the random initial weights are soon forgotten. `decay`: 0-1. Running statistics of batch
    norms are averaged too; integer buffers are copied.
    """

    def move(old: Sequence[Tensor], new: Sequence[Tensor], updates: Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(updates)) / (10 + int(updates)))
        for average, current in zip(old, new, strict=True):
            average.lerp_(current, share) if average.is_floating_point() else average.copy_(current)

    return AveragedModel(network, multi_avg_fn=torch.no_grad()(move), use_buffers=True)
