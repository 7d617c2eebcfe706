"""torchvision's DeepLabV3 with a ResNet-50 and random weights."""

import numpy as np
import torch
from torch import Tensor
from torchvision.models.segmentation import deeplabv3_resnet50

from speed_peers.comparisons import Comparison, Variant
from speed_peers.environment import Call, Environment, full_labels, normalized, torch_call


def load(variant: Variant, comparison: Comparison, environment: Environment, image: np.ndarray) -> Call:
    """The unmodified network; it resizes its logits itself."""
    torch.manual_seed(0)
    network = network_of(variant.classes).to(environment.device)

    def labels(pixels: Tensor) -> Tensor:
        return full_labels(network(normalized(pixels))["out"], pixels)

    return torch_call(labels, torch.device(environment.device), image)


def network_of(classes: int) -> torch.nn.Module:
    return deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=classes).eval()
