"""The training batch of all variants."""

import numpy as np
from torch import Tensor

from speed_peers.environment import Environment


def drawn_batch(image: np.ndarray, batch: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """`batch` images (B, H, W, 3), the sample rolled horizontally, and random labels (B, H, W) in blocks; uint8."""
    rng = np.random.default_rng(0)
    height, width = image.shape[:2]
    images = np.stack([np.roll(image, index * width // batch, axis=1) for index in range(batch)])
    blocks = rng.integers(0, classes, (batch, height // 16, width // 16), np.uint8)
    return images, blocks.repeat(16, axis=1).repeat(16, axis=2)


def pin(tensor: Tensor, environment: Environment) -> Tensor:
    """The tensor as a dataloader leaves it: in main memory, pinned for a GPU."""
    return tensor.pin_memory() if environment.device == "cuda" else tensor
