"""Peak memory of a block of code, on a GPU or a CPU."""

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

GPU = "peak memory of tensors on the GPU, including the network (torch.cuda.max_memory_allocated)"
GROWTH = "growth of the process's resident memory since before the first call, without the network"
HIGH_WATER = f"{GROWTH} (high-water mark of the kernel, reset before the first call)"
SAMPLED = f"{GROWTH} (sampled every {SAMPLE_SECONDS * 1000:.0f} ms)"


@dataclass
class Peak:
    """Peak memory: `mib` in MiB (2**20 bytes), None if it cannot be measured; `meaning` describes what was measured."""

    mib: float | None
    meaning: str


def peak_memory(device: torch.device) -> AbstractContextManager[Peak]:
    """A context whose `Peak` holds, at its end, the peak memory that `device` used within it.

    Memory that was freed earlier is first returned to the system; work that reuses it would seem to need none. On a
    CPU, measure in a fresh process: the allocator and libraries keep some memory of earlier work.
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
            return nullcontext(Peak(None, "not measured: not available on this system"))


@contextmanager
def _on_gpu(device: torch.device) -> Iterator[Peak]:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    peak = Peak(None, GPU)
    yield peak
    peak.mib = torch.cuda.max_memory_allocated(device) / MIB


@contextmanager
def _high_water() -> Iterator[Peak]:
    _return_free_memory()
    CLEAR.write_text("5")  # Linux: sets VmHWM to what is resident now (proc_pid_clear_refs(5))
    before, peak = _status("VmRSS"), Peak(None, HIGH_WATER)
    yield peak
    peak.mib = max(_status("VmHWM") - before, 0.0)


@contextmanager
def _sampled() -> Iterator[Peak]:
    _return_free_memory()
    before, peak, samples = _status("VmRSS"), Peak(None, SAMPLED), [0.0]
    with sample_in_background(SAMPLE_SECONDS, lambda: samples.append(_status("VmRSS"))):
        yield peak
    peak.mib = max(max(samples) - before, 0.0)


@contextmanager
def sample_in_background(seconds: float, sample: Callable[[], None]) -> Iterator[None]:
    """Call `sample` every `seconds` in a separate thread while the block runs."""
    stopped = Event()

    def run() -> None:
        while not stopped.wait(seconds):
            sample()

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


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


def _return_free_memory() -> None:
    """Let glibc's allocator return free memory to the system; does nothing without glibc."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return
