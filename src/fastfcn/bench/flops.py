"""FLOPs of a network for an image, and the peak FLOPs per second of a device.

A multiply-add counts as two operations. Only convolutions and matrix products are counted: the speed of all other
layers depends on memory bandwidth.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from fastfcn.bench.timing import synchronize

MAX_LENGTH = {"cuda": 8192, "cpu": 2048}  # side of the square matrices
MIN_LENGTH = 256


def count_flops(function: Callable[[Any], object], images: Any) -> int:
    """FLOPs of the convolutions and matrix products in `function(images)`.

    `images`: the argument of the function. On the meta device nothing is computed, so counting is fast for any network.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        function(images)
    return counter.get_total_flops()


def device_peaks(device: torch.device, precision: torch.dtype | None) -> tuple[dict[str, float], str]:
    """FLOPs per second of matrix products by number format, and the format in which convolutions are computed.

    `precision`: autocast's dtype, None without autocast. Float32 is always measured. If cuDNN may round the inputs of
    float32 convolutions to TensorFloat-32, which is PyTorch's default, that is their format.
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
    """FLOPs per second of the fastest square matrix product measured in `seconds`; at least three are measured.

    The side of the matrices is doubled up to MAX_LENGTH, as long as three products fit into `seconds`: on some CPUs
    bfloat16 is hundreds of times slower than float32.
    """
    full = MAX_LENGTH.get(device.type, 4096)
    length = min(MIN_LENGTH, full)
    while True:
        left, right = (torch.randn(length, length, device=device).to(dtype) for _ in range(2))
        product = left @ right  # the first product of a size is slower
        best = _product_seconds(left, right, product)
        if length == full or 3 * 8 * best > seconds:
            break
        length *= 2
    rounds, start = 1, perf_counter()
    while rounds < 3 or perf_counter() - start < seconds:
        best = min(best, _product_seconds(left, right, product))
        rounds += 1
    return 2 * length**3 / best


def _product_seconds(left: torch.Tensor, right: torch.Tensor, product: torch.Tensor) -> float:
    synchronize(left.device)
    start = perf_counter()
    torch.mm(left, right, out=product)
    synchronize(left.device)
    return perf_counter() - start
