"""Forms of operations that can be traced for unknown sizes: equal to PyTorch's, alone and in a traced program."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.experimental.dynamic_spec import ParamsSpec, ShapeVar, TensorSpec

from fastfcn.exporting.dynamic_sizes import DynamicSizes, pad, roll


@pytest.mark.parametrize(("shifts", "dims"), [(1, 0), (-2, 1), ((3, -3), (1, 2)), ((0, 7), (1, 2)), ((-9,), (2,))])
def test_roll_is_that_of_torch(shifts: Any, dims: Any):
    """Also by more than the size."""
    maps = torch.arange(24).reshape(2, 3, 4)
    assert torch.equal(roll(maps, shifts, dims), torch.roll(maps, shifts, dims))


@pytest.mark.parametrize("amounts", [(0, 3), (1, 2, 0, 1), (0, 0, 0, -1)])
def test_pad_is_that_of_torch(amounts: tuple[int, ...]):
    maps = torch.randn(2, 3, 4)
    assert torch.equal(pad(maps, amounts, value=0.5), F.pad(maps, amounts, value=0.5))


class ShiftedWindows(nn.Module):
    """Means over windows of 3, shifted by one, of maps (B, W, C), as Swin divides them along both axes."""

    def forward(self, maps: Tensor) -> Tensor:
        _, width, channels = maps.shape
        x = torch.roll(maps, shifts=(-1,), dims=(1,))
        x = F.pad(x, (0, 0, 0, (3 - width % 3) % 3))
        columns = x.shape[1]
        x = x.view(-1, columns // 3, 3, channels).reshape(-1, 3, channels)
        x = (x + x.mean(1, keepdim=True)).view(-1, columns // 3, 3, channels).reshape(-1, columns, channels)
        return torch.roll(x[:, :width].contiguous(), shifts=(1,), dims=(1,))


def test_shifted_windows_are_traced_for_all_sizes():
    sizes: Any = TensorSpec([ShapeVar(name, min=1) for name in ("batch", "width")] + [2])
    with DynamicSizes():
        traced = torch.export.export(
            ShiftedWindows(), (torch.randn(2, 9, 2),), dynamic_shapes=ParamsSpec({"maps": sizes}), strict=False
        )
    for size in ((3, 7), (1, 1)):
        maps = torch.randn(*size, 2)
        torch.testing.assert_close(traced.module()(maps), ShiftedWindows()(maps))
    # The number of images is not computed from windows: the expressions do not grow from block to block.
    output = next(node for node in traced.graph.nodes if node.op == "output").args[0][0]
    assert str(output.meta["val"].shape[0]) == "u0"
