"""A moving average of a network's weights, which often scores better than the last step's weights."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of `network` whose `update_parameters(network)` moves it towards what `network` is then.

    After t updates the share of the old value that stays is min(decay, (1 + t) / (10 + t)), as TensorFlow's
    ExponentialMovingAverage has it with `num_updates`: random first weights are soon forgotten. Running statistics
    are averaged too; counters are those of `network`.
    """

    def move(old: Sequence[Tensor], new: Sequence[Tensor], updates: Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(updates)) / (10 + int(updates)))
        for mine, theirs in zip(old, new, strict=True):
            mine.lerp_(theirs, share) if mine.is_floating_point() else mine.copy_(theirs)

    return AveragedModel(network, multi_avg_fn=torch.no_grad()(move), use_buffers=True)
