"""Operations that PyTorch (2.15) cannot trace for unknown sizes, or only in minutes, in equal forms that it can."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import SymInt, Tensor
from torch.overrides import TorchFunctionMode


class DynamicSizes(TorchFunctionMode):
    """Within this context all modules are traced with these forms, such as those with shifted windows (Swin)."""

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return FORMS.get(func, func)(*args, **(kwargs or {}))


def roll(input: Tensor, shifts: int | Sequence[int], dims: int | Sequence[int]) -> Tensor:
    """`torch.roll` along `dims`, as slices; the original asks whether there are elements at all."""
    pairs = [(shifts, dims)] if isinstance(shifts, int) else zip(shifts, dims, strict=True)  # type: ignore[arg-type]
    for shift, dim in pairs:
        size = input.shape[dim]  # type: ignore[index]
        first = -shift % size
        input = torch.cat([input.narrow(dim, first, size - first), input.narrow(dim, 0, first)], dim)  # type: ignore[arg-type]
    return input


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """`F.pad`; a side that is filled up to a multiple of windows becomes a product of their size.

    PyTorch then knows that windows divide it. Otherwise the number of images, which timm computes from windows, becomes
    an expression that grows from block to block.
    """
    amounts = list(pad)
    for axis in range(len(amounts) // 2):
        before, after, size = amounts[2 * axis], amounts[2 * axis + 1], input.shape[-1 - axis]
        if isinstance(before, int) and before == 0 and (multiple := _multiple(size, after)):
            amounts[2 * axis + 1] = (size + multiple - 1) // multiple * multiple - size
    return F.pad(input, amounts, mode, value)


def _multiple(size: int, after: int) -> int:
    """The number to whose next multiple `after` fills up the symbolic `size`; 0 if it has another form."""
    if not isinstance(size, SymInt) or not isinstance(after, SymInt):
        return 0
    side, amount = size.node.expr, after.node.expr
    modulus = amount.args[-1] if len(amount.args) == 2 else None  # the amount is a remainder
    if modulus is None or not modulus.is_Integer or not side.free_symbols:
        return 0
    multiple = int(modulus)  # type: ignore[arg-type] # is_Integer
    residues = [amount.xreplace({side: type(modulus)(length)}) for length in range(multiple, 2 * multiple)]
    return multiple if multiple > 1 and residues == [-length % multiple for length in range(multiple)] else 0


FORMS: dict[Any, Callable] = {torch.roll: roll, Tensor.roll: roll, F.pad: pad}
