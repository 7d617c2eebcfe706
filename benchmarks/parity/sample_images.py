"""The photographs on which networks are compared."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

MEAN = np.array([123.675, 116.28, 103.53], dtype=np.float32)
STD = np.array([58.395, 57.12, 57.375], dtype=np.float32)


class SampleImages:
    """The first three .jpg files under a folder, by name: two for running statistics, one to compare on."""

    def __init__(self, folder: Path):
        self.paths = sorted(folder.rglob("*.jpg"))[:3]
        if len(self.paths) < 3:
            raise SystemExit(f"{folder} has fewer than three .jpg images; choose a folder with --images")

    def image(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """uint8 RGB (height, width, 3)."""
        with Image.open(self.paths[index]) as image:
            return np.asarray(image.convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR))

    def for_statistics(self) -> Tensor:
        """(8, 3, 128, 192): quarters of two images, so that batch norms of pooled branches get more than two values."""
        halves = [half for index in (0, 1) for half in np.split(self.image(index, (256, 384)), 2)]
        return torch.cat([normalized(part) for half in halves for part in np.split(half, 2, axis=1)])


def normalized(image: np.ndarray) -> Tensor:
    """uint8 RGB (H, W, 3) -> (1, 3, H, W)."""
    return torch.from_numpy(((image - MEAN) / STD).astype(np.float32)).permute(2, 0, 1)[None].contiguous()
