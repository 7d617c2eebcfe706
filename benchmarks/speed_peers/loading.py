"""The loader of each program, imported on demand.

A loader takes (variant, contest, place, image) and returns a call without arguments, so that each program can keep the
image in its own input format. Imports at the top of a loader's module do not count towards a network's memory.
"""

from collections.abc import Callable

import numpy as np

from speed_peers.calls import Call, Place
from speed_peers.contests import Contest, Variant

Loader = Callable[[Variant, Contest, Place, np.ndarray], Call]


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
