"""The most memory that a piece of work needs at once, on a GPU or a CPU."""

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import torch

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
SAMPLE_SECONDS = 0.005
MIB = 2**20

GPU = "most memory held by tensors at once on the GPU, the network included (torch.cuda.max_memory_allocated)"
GROWTH = "growth of the process's resident memory over its state before the first call, the network not included"
HIGH_WATER = f"{GROWTH} (the system's high-water mark, reset before the first call)"
SAMPLED = f"{GROWTH} (sampled every {SAMPLE_SECONDS * 1000:.0f} ms)"


@dataclass
class Peak:
    """What was measured: `mib` in MiB (2**20 bytes), None where the system does not tell; `meaning` says of what."""

    mib: float | None
    meaning: str


def peak_memory(device: torch.device) -> AbstractContextManager[Peak]:
    """A context whose `Peak` holds, at its end, the most memory that `device` needed within it.

    Memory that the process freed earlier is handed back to the system first, because work that fits into it would
    seem to need none. A fresh process is still the only honest place for a figure from a CPU: what the allocator or
    a library keeps from earlier work cannot all be had back.
    """
    gc.collect()
    match device.type:
        case "cuda":
            return _on_gpu(device)
        case "cpu" if _can_reset():
            return _high_water()
        case "cpu" if STATUS.exists():
            return _sampled()
        case _:
            return nullcontext(Peak(None, "not measured: this system does not tell"))


@contextmanager
def _on_gpu(device: torch.device) -> Iterator[Peak]:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    peak = Peak(None, GPU)
    yield peak
    peak.mib = torch.cuda.max_memory_allocated(device) / MIB


@contextmanager
def _high_water() -> Iterator[Peak]:
    _hand_back()
    CLEAR.write_text("5")  # Linux: sets VmHWM to what is resident now (proc_pid_clear_refs(5))
    before, peak = _status("VmRSS"), Peak(None, HIGH_WATER)
    yield peak
    peak.mib = max(_status("VmHWM") - before, 0.0)


@contextmanager
def _sampled() -> Iterator[Peak]:
    _hand_back()
    before, peak, seen = _status("VmRSS"), Peak(None, SAMPLED), [0.0]
    with sampling(SAMPLE_SECONDS, lambda: seen.append(_status("VmRSS"))):
        yield peak
    peak.mib = max(max(seen) - before, 0.0)


@contextmanager
def sampling(seconds: float, sample: Callable[[], None]) -> Iterator[None]:
    """Call `sample` every so many seconds, in a thread of its own, as long as the block runs."""
    done = Event()

    def watch() -> None:
        while not done.wait(seconds):
            sample()

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _can_reset() -> bool:
    try:
        CLEAR.write_text("5")
        return _status("VmHWM") > 0
    except (OSError, KeyError):
        return False


def _status(field: str) -> float:
    """A size from /proc/self/status in MiB."""
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return int(lines[field].split()[0]) / 1024


def _hand_back() -> None:
    """Ask glibc's allocator to give free memory back to the system; elsewhere this does nothing."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return
