"""The loader of each program, imported on demand.

A loader takes (variant, comparison, environment, image) and returns a call without arguments, so that each program can
keep the image in its own input format. Top-level imports of a loader's module do not count as memory of the network.
"""

from collections.abc import Callable

import numpy as np

from speed_peers.comparisons import Comparison, Variant
from speed_peers.environment import Call, Environment

Loader = Callable[[Variant, Comparison, Environment, np.ndarray], Call]


def loader(program: str) -> Loader:
    """Import what `program` needs and return its loader."""
    match program:
        case "fastfcn":
            from speed_peers.fastfcn_loaders import load
        case "fastfcn_training":
            from speed_peers.fastfcn_loaders import load_training as load
        case "mmsegmentation":
            from speed_peers.mmsegmentation_loaders import load
        case "mmsegmentation_training":
            from speed_peers.mmsegmentation_loaders import load_training as load
        case "compiled":
            from speed_peers.mmsegmentation_loaders import load_compiled as load
        case "openvino":
            from speed_peers.runtime_loaders import load_openvino as load
        case "onnxruntime":
            from speed_peers.runtime_loaders import load_onnxruntime as load
        case "torchvision":
            from speed_peers.torchvision_loader import load
        case _:
            raise ValueError(f"unknown program {program!r}")
    return load
