"""Each program's way from the prepared weights to a call: uint8 RGB image in, class map out.

A loader takes (variant, contest, place, image) and returns a function without arguments, so that each program may hold
the image in the form that it reads. What is imported at the top of a loader's module counts to no network.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speed_peers.contests import Contest, Variant
from speed_peers.turns import Place

Call = Callable[[], np.ndarray | None]
Loader = Callable[[Variant, Contest, Place, np.ndarray], Call]
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def loader(program: str) -> Loader:
    """Import what `program` needs and return its loader."""
    match program:
        case "fastfcn":
            from speed_peers.ours import load
        case "fastfcn_training":
            from speed_peers.ours import load_training as load
        case "mmsegmentation":
            from speed_peers.mmsegmentation import load
        case "mmsegmentation_training":
            from speed_peers.mmsegmentation import load_training as load
        case "compiled":
            from speed_peers.mmsegmentation import load_compiled as load
        case "openvino":
            from speed_peers.runtimes import load_openvino as load
        case "onnxruntime":
            from speed_peers.runtimes import load_onnxruntime as load
        case "torchvision":
            from speed_peers.vision import load
        case _:
            raise ValueError(f"there is no program {program!r}")
    return load


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
