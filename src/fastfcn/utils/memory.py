"""Peak memory of this process."""

import sys

import torch


def process_memory(device: torch.device) -> tuple[float | None, str]:
    """Peak memory so far in MiB, None if the system does not report it; and a description of what was measured."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20, "peak memory of tensors on the GPU"
    try:
        import resource
    except ImportError:  # Windows
        return None, "not measured: not available on this system"
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    return peak, "peak memory of the whole process, including PyTorch and the evaluation"
