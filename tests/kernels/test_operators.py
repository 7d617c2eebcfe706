"""All operators: invalid arguments are rejected, and torch.compile and torch.export know the result's shape."""

import pytest
import torch

from fastfcn.kernels import packing
from tests.helpers import needed
from tests.helpers.drawn_tensors import Draw
from tests.kernels.reference import to_channel_blocks

pytestmark = needed.KERNELS


def test_wrong_maps_are_refused():
    weight, bias = torch.ones(16, 16, 3, 3), torch.zeros(16)
    taps = torch.ops.fastfcn.pack_taps(weight, False)
    for wrong in (
        torch.ones(1, 16, 4, 4, dtype=torch.float64),
        torch.ones(16, 4, 4),
        torch.ones(1, 16, 4, 4).bfloat16(),
    ):
        with pytest.raises(RuntimeError, match="float32 map"):
            torch.ops.fastfcn.winograd(wrong, taps, bias, False, 1, 1, 6)
    with pytest.raises(RuntimeError, match="a residual of"):
        torch.ops.fastfcn.winograd_add_(torch.ones(1, 16, 4, 5), torch.ones(1, 16, 4, 4), taps, bias, False, 1, 1, 6)
    with pytest.raises(RuntimeError, match="multiples"):
        torch.ops.fastfcn.winograd(torch.ones(1, 9, 4, 4), taps, bias, False, 1, 1, 6)
    with pytest.raises(RuntimeError, match=r"blocks of 16 channels cannot hold 24|multiples of 16, got 24"):
        torch.ops.fastfcn.winograd(torch.ones(1, 16, 4, 4), taps, torch.zeros(24), False, 1, 1, 6, True)
    with pytest.raises(RuntimeError, match="3 to 6 results"):
        torch.ops.fastfcn.winograd(torch.ones(1, 16, 4, 4), taps, bias, False, 1, 1, 7)
    depthwise, pointwise = packing.pack_depthwise(weight[:, :1]), packing.pack_pointwise(weight[:, :, :1, :1])
    settings = (depthwise[None], pointwise[None], torch.zeros(1, 16), [1], False)
    with pytest.raises(RuntimeError, match="outputs in multiples"):
        torch.ops.fastfcn.jpu([torch.ones(1, 16, 4, 4)], *settings, pointwise, torch.zeros(5))
    with pytest.raises(RuntimeError, match="float32 map on the CPU"):
        torch.ops.fastfcn.jpu([torch.ones(1, 1, 4, 4, 16).double()], *settings)
    with pytest.raises(RuntimeError, match="three convolutions"):
        torch.ops.fastfcn.bottleneck_stage(torch.ones(1, 16, 4, 4), [taps], [bias], 1, [1], 6)
    with pytest.raises(RuntimeError, match="images of 3 channels"):
        torch.ops.fastfcn.stem(torch.ones(1, 4, 4, 4), taps, bias, 7, True)
    with pytest.raises(RuntimeError, match="7x7 taps"):
        torch.ops.fastfcn.stem(torch.ones(1, 3, 4, 4), taps, bias, 7, True)
    with pytest.raises(RuntimeError, match="expected `packed` to be"):
        torch.ops.fastfcn.gated_classifier(torch.ones(1, 2, 16), bias, bias, bias, bias, taps)
    with pytest.raises(RuntimeError, match="at least one map"):
        torch.ops.fastfcn.jpu([], *settings)
    for scales, inputs in ((3, 15), (100, 16)):
        with pytest.raises(RuntimeError, match="expected `packed` to be"):
            torch.ops.fastfcn.encode(
                torch.ones(1, 16, 4, 4), torch.ones(1, inputs, 2 * torch.ops.fastfcn.lanes()), torch.ones(scales)
            )
    for stride, dilation in ((2, 3), (3, 1)):
        with pytest.raises(RuntimeError, match="stride must be 1, or 2 with a dilation of 1 or an even one"):
            torch.ops.fastfcn.winograd(torch.ones(1, 16, 4, 4), taps, bias, False, stride, dilation, 6)


def test_operators_are_known_to_torch_compile_and_export():
    draw = Draw(5)
    maps = [draw.tensor(2, 16, 8, 10), draw.tensor(2, 16, 4, 5)]
    weight, bias = draw.tensor(32, 16, 3, 3), draw.tensor(32)
    taps = torch.stack([packing.pack_depthwise(draw.tensor(32, 1, 3, 3))])
    packed = torch.stack([packing.pack_pointwise(draw.tensor(32, 32, 1, 1))])
    calls = {
        "pointwise": (maps[0], packing.pack_pointwise(weight[:, :, :1, :1]), bias, True, 2),
        "pointwise_add_": (
            draw.tensor(2, 32, 4, 5),
            maps[0],
            packing.pack_pointwise(weight[:, :, :1, :1]),
            bias,
            True,
            2,
        ),
        "pointwise_pair": (
            draw.tensor(2, 16, 4, 5),
            packing.pack_pointwise(weight[:, :, :1, :1]),
            bias,
            True,
            maps[0],
            packing.pack_pointwise(weight[:, :, 1:2, :1]),
            2,
        ),
        "winograd": (maps[0], torch.ops.fastfcn.pack_taps(weight, False), bias, True, 2, 1, 4),
        "winograd_add_": (
            draw.tensor(2, 32, 8, 10),
            maps[0],
            torch.ops.fastfcn.pack_taps(weight, False),
            bias,
            True,
            1,
            1,
            4,
        ),
        "winograd into channel blocks": (
            maps[0],
            torch.ops.fastfcn.pack_taps(weight, False),
            bias,
            True,
            1,
            1,
            6,
            True,
        ),
        "jpu": (maps, taps, packed, bias[None], [2], False),
        "jpu of channel-blocked maps": (
            [to_channel_blocks(map_) for map_ in maps],
            taps,
            packed,
            bias[None],
            [2],
            False,
        ),
        "jpu and a convolution behind it": (
            maps,
            taps,
            packed,
            bias[None],
            [2],
            False,
            packing.pack_pointwise(draw.tensor(48, 32, 1, 1)),
            draw.tensor(48),
        ),
        "bottleneck_stage": (
            maps[0],
            [
                packing.pack_pointwise(draw.tensor(32, 16, 1, 1)),
                torch.ops.fastfcn.pack_taps(draw.tensor(32, 32, 3, 3), False),
                packing.pack_pointwise(draw.tensor(48, 32, 1, 1)),
                packing.pack_pointwise(draw.tensor(48, 16, 1, 1)),
            ],
            [bias, bias, draw.tensor(48)],
            2,
            [1],
            4,
        ),
        "winograd_pool": (maps[0], torch.ops.fastfcn.pack_taps(weight, False), bias, 6),
        "stem": (draw.tensor(2, 3, 9, 14), packing.pack_matrix(draw.tensor(27, 32)), bias, 3, True),
        "stem with a limit": (
            draw.tensor(2, 3, 9, 14),
            packing.pack_matrix(draw.tensor(27, 32)),
            bias,
            3,
            False,
            True,
            6.0,
        ),
        "inverted_residual": (
            maps[0],
            packing.pack_pointwise(draw.tensor(32, 16, 1, 1)),
            bias,
            packing.pack_depthwise(draw.tensor(32, 1, 3, 3)),
            bias,
            packing.pack_pointwise(draw.tensor(24, 32, 1, 1)),
            draw.tensor(24),
            3,
            2,
            True,
            6.0,
            False,
        ),
        "inverted_residual without the first convolution": (
            maps[0],
            None,
            None,
            packing.pack_depthwise(draw.tensor(16, 1, 3, 3)),
            draw.tensor(16),
            packing.pack_pointwise(draw.tensor(16, 16, 1, 1)),
            draw.tensor(16),
            3,
            1,
            False,
            6.0,
            True,
        ),
        "gated_classifier": (
            draw.tensor(2, 5, 16),
            draw.tensor(5),
            draw.tensor(5),
            draw.tensor(16, 16),
            draw.tensor(16),
            packing.pack_matrix(draw.tensor(16, 40)),
        ),
        "max_pool": (maps[0],),
        "encode": (maps[0], packing.pack_matrix(draw.tensor(16, 20)), draw.tensor(20)),
        "upsample_labels": (maps[0], 64, 80, False),
    }
    for name, arguments in calls.items():
        torch.library.opcheck(getattr(torch.ops.fastfcn, name.split()[0]).default, arguments)
