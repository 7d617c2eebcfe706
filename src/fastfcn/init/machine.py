"""The machine that a recipe is drafted for: what trains on it, and how much memory that has."""

import os
from dataclasses import dataclass

GIGABYTE = 2**30


@dataclass(frozen=True)
class TrainingMachine:
    """`kind`: "cpu", "cuda" or "mps"; `name` in words; `memory` in GiB, of the GPU where there is one."""

    kind: str
    name: str
    memory: float


def this_machine(accelerator: str = "auto") -> TrainingMachine:
    """The machine at hand, as `--accelerator` ("auto", "cpu", "cuda", "mps") would use it."""
    import torch

    if accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        return TrainingMachine("cuda", device.name, device.total_memory / GIGABYTE)
    if accelerator in ("auto", "mps") and torch.backends.mps.is_available():
        return TrainingMachine("mps", "an Apple GPU", _memory() / 2)  # which it shares with everything else
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return TrainingMachine("cpu", f"{cores} processor cores" if cores > 1 else "one processor core", _memory())


def _memory() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIGABYTE
    except (AttributeError, OSError, ValueError):  # not to be had on Windows
        return 8.0
