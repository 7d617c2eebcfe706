"""Peak memory of this process."""

import sys

import torch


def process_memory(device: torch.device) -> tuple[float | None, str]:
    """MiB that this process needed at most so far, and what that is of; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20, "most memory held by tensors at once on the GPU"
    try:
        import resource
    except ImportError:  # Windows
        return None, "not measured: this system does not tell"
    unit = 1 if sys.platform == "darwin" else 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    return most, "most memory of the whole process, PyTorch and the scoring itself included"
