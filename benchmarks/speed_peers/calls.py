"""What all loaders share: where a contest runs, and the steps between image, network and segmentation map."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speed_peers.contests import Contest

Call = Callable[[], np.ndarray | None]
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Place:
    """Where a contest takes place: `folder` holds weights and image, `device` is "cpu" or "cuda"."""

    folder: Path
    device: str
    threads: int


def image_path(place: Place, contest: Contest) -> Path:
    return place.folder / "image_{}x{}.npy".format(*contest.size)


def normalised(image: Tensor) -> Tensor:
    """(1, H, W, 3) uint8 RGB -> (1, 3, H, W)."""
    mean, std = (torch.tensor(each, device=image.device).view(1, 3, 1, 1) for each in (MEAN, STD))
    return (image.permute(0, 3, 1, 2).float() - mean) / std


def full_labels(scores: Tensor, image: Tensor) -> Tensor:
    """Scores (1, C, h, w) -> class map (1, H, W), uint8, of the size of `image` (1, H, W, 3)."""
    full = F.interpolate(scores, size=image.shape[1:3], mode="bilinear", align_corners=False)
    return full.argmax(1).to(torch.uint8)


def through(network: nn.Module | Callable[[Tensor], Tensor], device: torch.device, image: np.ndarray) -> Call:
    """The call of a torch `network` that makes a class map (1, H, W) of an image (1, H, W, 3)."""

    @torch.inference_mode()
    def call() -> np.ndarray:
        return network(torch.from_numpy(image)[None].to(device))[0].cpu().numpy()

    return call
