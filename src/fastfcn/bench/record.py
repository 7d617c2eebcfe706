"""What every record of a measurement contains: the machine and versions, and rounded numbers."""

import os
import platform
from pathlib import Path

import torch

from fastfcn.utils.provenance import package_versions


def machine_info(device: torch.device) -> dict:
    """The keys "machine" (device, CPU, GPU, threads, system) and "versions" (Python and packages) of a record."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    machine = {
        "device": device.type,
        "processor": _processor(),
        "gpu": gpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
    }
    versions = {"python": platform.python_version()} | package_versions()
    return {"machine": machine, "versions": versions | ({"cuda": torch.version.cuda} if gpu else {})}


def machine_name(record: dict) -> str:
    """The device a record was measured on; empty if nothing was measured."""
    machine = record.get("machine")
    if not machine:
        return ""
    return machine["gpu"] or f"{machine['processor']}, {machine['threads']} thread(s)"


def rounded(value: object) -> object:
    """Round all floats in nested lists and dictionaries to five significant digits; timings are less precise."""
    match value:
        case float():
            return float(f"{value:.5g}")
        case dict():
            return {key: rounded(inner) for key, inner in value.items()}
        case list():
            return [rounded(inner) for inner in value]
        case _:
            return value


def _processor() -> str:
    """The CPU's name and the widest instruction set that PyTorch uses on it.

    Virtual machines often hide the model, so that different generations have the same name.
    """
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {torch.backends.cpu.get_cpu_capability()}"
