"""Operators after which the CPU waits for a GPU, found with fake tensors, without a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

aten: Any = torch.ops.aten


class _Waits(TorchDispatchMode):
    def __init__(self, names: list[str]):
        super().__init__()
        self.names = names

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        first = next((value for value in (args[1:] if func is aten.copy_.default else args)), None)
        if func in (aten.copy_.default, aten._to_copy.default) and isinstance(first, Tensor):
            asynchronous = kwargs.get("non_blocking", False) or (func is aten.copy_.default and args[2:3] == (True,))
            if first.device != result.device and not asynchronous:
                self.names.append(f"{func}: {first.device} to {result.device}")
        return result


@contextmanager
def no_gpu_waits() -> Iterator[None]:
    """Tensors created inside are fake, also those on "cuda". Raises for what waits for a GPU: values, copies."""
    names: list[str] = []
    with FakeTensorMode(allow_non_fake_inputs=True), _Waits(names):
        yield
    assert not names, names


@contextmanager
def cuda_autocast() -> Iterator[None]:
    """Autocast to bf16 of tensors on "cuda"; `torch.autocast` does nothing where there is no GPU."""
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])
