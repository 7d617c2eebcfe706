"""Arithmetic: how much of it a network does for an image, and how much a device can do in a second.

Both count a multiplication and the addition after it as two operations, and both count convolutions and matrix
products alone: all the rest of a network is a matter of memory.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from fastfcn.bench.timing import synchronize

LENGTH = {"cuda": 8192, "cpu": 2048}  # of the square matrices
SHORTEST = 256


def count_flops(function: Callable[[Any], object], images: Any) -> int:
    """Operations in the convolutions and matrix products of `function(images)`: a tensor, or whatever it takes.

    On the meta device nothing is computed, so a network of any size is counted at once.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        function(images)
    return counter.get_total_flops()


def device_peaks(device: torch.device, precision: torch.dtype | None) -> tuple[dict[str, float], str]:
    """Operations per second in matrix products by number format, and the format that convolutions work in.

    `precision`: what autocast casts to, None where it is off. Float32 is always measured. Where cuDNN is allowed to
    round the inputs of float32 convolutions to TensorFloat-32, as torch lets it by default, that is their format.
    """
    peaks = {"float32": matrix_peak(device, torch.float32)}
    if precision is not None:
        name = str(precision).removeprefix("torch.")
        peaks[name] = matrix_peak(device, precision)
        return peaks, name
    if device.type == "cuda" and torch.backends.cudnn.allow_tf32 and torch.cuda.get_device_capability(device)[0] >= 8:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        peaks["tensorfloat32"] = matrix_peak(device, torch.float32)
        torch.set_float32_matmul_precision(before)
        return peaks, "tensorfloat32"
    return peaks, "float32"


def matrix_peak(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Operations per second of the fastest of the square matrix products that fit into `seconds`, three at least.

    The matrices are as long as LENGTH says, or half of it, a fourth, ... where three products would take longer than
    that: some processors work in bfloat16 hundreds of times as slowly as in float32.
    """
    full = LENGTH.get(device.type, 4096)
    length = min(SHORTEST, full)
    while True:
        left, right = (torch.randn(length, length, device=device).to(dtype) for _ in range(2))
        product = left @ right  # the first one of its size takes longer
        best = _product_seconds(left, right, product)
        if length == full or 3 * 8 * best > seconds:
            break
        length *= 2
    rounds, began = 1, perf_counter()
    while rounds < 3 or perf_counter() - began < seconds:
        best = min(best, _product_seconds(left, right, product))
        rounds += 1
    return 2 * length**3 / best


def _product_seconds(left: torch.Tensor, right: torch.Tensor, product: torch.Tensor) -> float:
    synchronize(left.device)
    start = perf_counter()
    torch.mm(left, right, out=product)
    synchronize(left.device)
    return perf_counter() - start
