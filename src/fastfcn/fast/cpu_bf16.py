"""bf16 predictions on a CPU: only where it has bf16 arithmetic, and only if they are faster than in float32."""

from functools import cache
from time import perf_counter

import torch

from fastfcn.kernels.build import instructions
from fastfcn.kernels.loading import is_off
from fastfcn.models.segmenter import Segmenter
from fastfcn.utils.machine import BF16, FULL_PRECISION, autocast_type, precision_name
from fastfcn.utils.progress import note

SWITCH = "FASTFCN_CPU_BF16"  # "off": predict as on a CPU without bf16 arithmetic
INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "bf16"}  # as /proc/cpuinfo names them; the last on arm64
SIZE = 256  # pixels, height and width of the image that is timed
ROUNDS = 3


def has_bf16() -> bool:
    """Return whether this CPU has bf16 arithmetic. Without it, PyTorch converts to float32 and back: half as fast."""
    return not is_off(SWITCH) and bool(INSTRUCTIONS & set(instructions().split()))


def possible_precision(precision: str) -> str:
    """The precision in which a CPU predicts: "32-true" for bf16 without bf16 arithmetic, which is printed once."""
    precision = precision_name(precision)
    if precision == BF16 and not has_bf16():
        _note_once("float32 is used instead of bf16: this CPU has no bf16 arithmetic (AVX512-BF16 or AMX).")
        return FULL_PRECISION
    return precision


def fastest_precision(precision: str, channels: int, full: Segmenter, half: Segmenter) -> str:
    """As `possible_precision`; "32-true" also if the network `half` in bf16 is slower than `full` in float32.

    That is measured now, with an image of `channels`.
    """
    precision = possible_precision(precision)
    if precision != BF16:
        return precision
    times = _milliseconds({BF16: half, FULL_PRECISION: full}, torch.zeros(1, channels, SIZE, SIZE))
    fastest = min(times, key=times.__getitem__)
    measured = f"{times[BF16]:.3g} ms in bf16, {times[FULL_PRECISION]:.3g} ms in float32"
    note(f"{'bf16' if fastest == BF16 else 'float32'} is used: {SIZE}x{SIZE} pixels take {measured}.")
    return fastest


@torch.inference_mode()
def _milliseconds(networks: dict[str, Segmenter], images: torch.Tensor) -> dict[str, float]:
    """The least time of a prediction in each precision, in turns; the first round is not counted."""
    times: dict[str, list[float]] = {precision: [] for precision in networks}
    for _ in range(1 + ROUNDS):
        for precision, network in networks.items():
            dtype, start = autocast_type(precision), perf_counter()
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                network.labels(images)
            times[precision].append(1000 * (perf_counter() - start))
    return {precision: min(values[1:]) for precision, values in times.items()}


_note_once = cache(note)
