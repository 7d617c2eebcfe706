"""The batch that both sides train on."""

import numpy as np
from torch import Tensor

from speed_peers.calls import Place


def drawn_batch(image: np.ndarray, batch: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """`batch` images (B, H, W, 3), the photograph rolled sideways, with labels (B, H, W) in blocks; uint8."""
    chance = np.random.default_rng(0)
    height, width = image.shape[:2]
    images = np.stack([np.roll(image, index * width // batch, axis=1) for index in range(batch)])
    blocks = chance.integers(0, classes, (batch, height // 16, width // 16), np.uint8)
    return images, blocks.repeat(16, axis=1).repeat(16, axis=2)


def held(tensor: Tensor, place: Place) -> Tensor:
    """The tensor where a loader would have left it: in main memory, pinned where a GPU is to read it."""
    return tensor.pin_memory() if place.device == "cuda" else tensor
