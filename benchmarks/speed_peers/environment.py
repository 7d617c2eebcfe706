"""Shared by all loaders: where a comparison runs, the steps from image to segmentation map, and training batches."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speed_peers.comparisons import Comparison

Call = Callable[[], np.ndarray | None]
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Environment:
    """Where a comparison runs: `folder` with weights and image, `device` "cpu" or "cuda", and CPU threads."""

    folder: Path
    device: str
    threads: int


def image_path(environment: Environment, comparison: Comparison) -> Path:
    return environment.folder / "image_{}x{}.npy".format(*comparison.size)


def normalized(image: Tensor) -> Tensor:
    """(1, H, W, 3) uint8 RGB -> (1, 3, H, W)."""
    mean, std = (torch.tensor(values, device=image.device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (image.permute(0, 3, 1, 2).float() - mean) / std


def full_labels(logits: Tensor, image: Tensor) -> Tensor:
    """Logits (1, C, h, w) -> segmentation map (1, H, W), uint8, of the size of `image` (1, H, W, 3)."""
    full = F.interpolate(logits, size=image.shape[1:3], mode="bilinear", align_corners=False)
    return full.argmax(1).to(torch.uint8)


def torch_call(network: nn.Module | Callable[[Tensor], Tensor], device: torch.device, image: np.ndarray) -> Call:
    """A call of a torch `network` that returns the segmentation map (H, W) of an image (H, W, 3)."""

    @torch.inference_mode()
    def call() -> np.ndarray:
        return network(torch.from_numpy(image)[None].to(device))[0].cpu().numpy()

    return call


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
