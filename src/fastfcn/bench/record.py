"""What is written beside figures, and how: machine, versions, command; sizes as they are typed."""

import os
import platform
import shlex
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from fastfcn.errors import UserError

BUSY = 0.85  # a network alone on a machine keeps more of its threads at work than this
PACKAGES = ("fastfcn", "torch", "torchvision", "timm", "lightning", "numpy")


def machine_facts(device: torch.device) -> dict:
    """The machine and the versions, under "machine" and "versions"."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    machine = {
        "device": device.type,
        "processor": _processor(),
        "gpu": gpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
    }
    versions = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    return {"machine": machine, "versions": versions | ({"cuda": torch.version.cuda} if gpu else {})}


def machine_name(record: dict) -> str:
    """What a record was measured on, in few words; empty where nothing was."""
    machine = record.get("machine")
    if not machine:
        return ""
    return machine["gpu"] or f"{machine['processor']}, {machine['threads']} thread(s)"


def busy_warning(cores_busy: float, record: dict) -> str:
    """What to say where other work took processors that the measurement wanted; else nothing."""
    machine = record.get("machine")
    if not machine or machine["device"] != "cpu" or cores_busy >= BUSY * machine["threads"]:
        return ""
    return f"[red]Only {cores_busy:.1f} of {machine['threads']} processors were to be had: the machine was busy.[/]"


def image_size(text: str) -> tuple[int, int]:
    """(height, width) of a text such as 512x1024; raises UserError."""
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise UserError(f"{text!r} is not a size.", "Give height and width in pixels, such as 512x1024.")
    return int(height), int(width)


def command() -> str:
    """The command line of this process, with the program's bare name."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def rounded(value: object) -> object:
    """Floats in nested lists and dictionaries to five figures, which is more than the clock is good for."""
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
    """The processor's name as Linux gives it, or what Python knows, and its widest instructions, as far as torch knows.

    Virtual machines often hide the model, and two generations are called the same.
    """
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {torch.backends.cpu.get_cpu_capability()}"
