"""Random numbers and tensors from a seed, with maps in every memory format."""

import torch
from torch import Tensor


class Draw:
    """Numbers and tensors determined by a seed."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def number(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def tensor(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def features(self, batch: int, channels: int, height: int, width: int) -> Tensor:
        """A map stored channels last, rows first, or as a slice of another one."""
        match self.number(0, 2):
            case 0:
                return self.tensor(batch, channels, height, width).contiguous(memory_format=torch.channels_last)
            case 1:
                return self.tensor(batch, channels, height, width)
            case _:
                return self.tensor(batch, 2 * channels, height + 1, width + 2)[:, ::2, 1:, 1:-1]
