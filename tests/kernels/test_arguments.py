"""Arguments of all operators: odd ones raise a RuntimeError, and batches of no images give empty results.

None may crash or read memory outside of the arguments: under tests/kernels/sanitize.sh both show.
"""

from collections.abc import Callable, Iterator
from math import inf, nan
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn.fast.optimize import optimize
from fastfcn.kernels import packing
from tests.fast.test_optimize import network
from tests.helpers import needed
from tests.helpers.drawn_tensors import Draw
from tests.kernels.reference import to_channel_blocks

pytestmark = needed.KERNELS

BATCH, CHANNELS, OUTPUTS = 2, 16, 32


class Call(NamedTuple):
    """A valid call of an operator: names and values of its arguments."""

    operator: str
    arguments: dict[str, Any]

    def run(self, **changes: Any) -> Any:
        return getattr(torch.ops.fastfcn, self.operator)(**self.arguments | changes)


def valid_calls() -> list[Call]:
    """One valid call of each operator, or more if it has optional arguments or other layouts."""
    draw = Draw(3)
    features, small = draw.tensor(BATCH, CHANNELS, 8, 10), draw.tensor(BATCH, CHANNELS, 4, 5)
    weight, bias = draw.tensor(OUTPUTS, CHANNELS, 3, 3), draw.tensor(OUTPUTS)
    packed, taps = packing.pack_pointwise(weight[:, :, :1, :1]), torch.ops.fastfcn.pack_taps(weight, False)
    residual = draw.tensor(BATCH, OUTPUTS, 8, 10)
    point = {"features": features, "packed": packed, "bias": bias, "relu": True, "stride": 1}
    conv = {"features": features, "taps": taps, "bias": bias, "relu": True, "stride": 1, "dilation": 1, "max_tile": 4}
    jpu = {
        "maps": [features, small],
        "taps": packing.pack_depthwise(draw.tensor(2 * CHANNELS, 1, 3, 3))[None],
        "packed": packing.pack_pointwise(draw.tensor(OUTPUTS, 2 * CHANNELS, 1, 1))[None],
        "bias": bias[None],
        "dilations": [2],
        "align_corners": False,
    }
    following = {
        "next_packed": packing.pack_pointwise(draw.tensor(48, OUTPUTS, 1, 1)),
        "next_bias": draw.tensor(48),
    }
    stage = {
        "features": features,
        "weights": [
            packed,
            torch.ops.fastfcn.pack_taps(draw.tensor(OUTPUTS, OUTPUTS, 3, 3), False),
            packing.pack_pointwise(draw.tensor(48, OUTPUTS, 1, 1)),
            packing.pack_pointwise(draw.tensor(48, CHANNELS, 1, 1)),
        ],
        "biases": [bias, bias, draw.tensor(48)],
        "stride": 2,
        "dilations": [1],
        "max_tile": 4,
    }
    pair = {
        "features": features,
        "packed": packed,
        "bias": bias,
        "relu": False,
        "shortcut": draw.tensor(BATCH, CHANNELS, 16, 20),
        "shortcut_packed": packed,
        "stride": 2,
    }
    stem = {
        "images": draw.tensor(BATCH, 3, 9, 14),
        "packed": packing.pack_matrix(draw.tensor(27, OUTPUTS)),
        "bias": bias,
        "kernel": 3,
        "pool": True,
    }
    block = {
        "features": features,
        "expand": packing.pack_pointwise(draw.tensor(48, CHANNELS, 1, 1)),
        "expand_bias": draw.tensor(48),
        "taps": packing.pack_depthwise(draw.tensor(48, 1, 5, 5)),
        "taps_bias": draw.tensor(48),
        "project": packing.pack_pointwise(draw.tensor(CHANNELS, 48, 1, 1)),
        "project_bias": draw.tensor(CHANNELS),
        "kernel": 5,
        "stride": 1,
        "same": True,
        "limit": 6.0,
        "residual": True,
    }
    separable = {
        "expand": None,
        "expand_bias": None,
        "taps": packing.pack_depthwise(draw.tensor(CHANNELS, 1, 3, 3)),
        "taps_bias": draw.tensor(CHANNELS),
        "project": packing.pack_pointwise(draw.tensor(CHANNELS, CHANNELS, 1, 1)),
        "kernel": 3,
    }
    gate = {
        "codes": draw.tensor(BATCH, 5, CHANNELS),
        "scale": draw.tensor(5),
        "shift": draw.tensor(5),
        "gate": draw.tensor(CHANNELS, CHANNELS),
        "gate_bias": draw.tensor(CHANNELS),
        "packed": packing.pack_matrix(draw.tensor(CHANNELS, 40)),
    }
    encode = {"features": features, "packed": packing.pack_matrix(draw.tensor(CHANNELS, 20)), "scale": draw.tensor(20)}
    gradients = draw.tensor(BATCH, OUTPUTS, 8, 10)
    return [
        Call("pointwise", point),
        Call("pointwise_add_", {"residual": residual} | point),
        Call("pointwise_pair", pair),
        Call("pack_taps", {"weight": weight, "transposed": False}),
        Call("winograd", conv),
        Call("winograd", conv | {"channel_blocked": True}),
        Call("winograd", conv | {"stride": 2, "dilation": 2}),
        Call("winograd_add_", {"residual": residual} | conv),
        Call("bottleneck_stage", stage),
        Call("stem", stem),
        Call("stem", stem | {"pool": False}),
        Call("stem", stem | {"pool": False, "same": True, "limit": 6.0}),
        Call("inverted_residual", block),
        Call("inverted_residual", block | separable),
        Call("inverted_residual", block | {"stride": 2, "residual": False}),
        Call("winograd_pool", {"features": features, "taps": taps, "bias": bias, "max_tile": 6}),
        Call("max_pool", {"features": features}),
        Call("jpu", jpu),
        Call("jpu", jpu | {"maps": [to_channel_blocks(map_) for map_ in (features, small)]}),
        Call("jpu", jpu | following),
        Call("encode", encode),
        Call("gated_classifier", gate),
        Call("upsample_labels", {"logits": features, "height": 64, "width": 80, "align_corners": False}),
        Call("winograd_weight_gradient", {"features": features, "gradients": gradients, "dilation": 1, "max_tile": 4}),
        Call(
            "depthwise",
            {
                "features": features,
                "weight": draw.tensor(CHANNELS, 1, 3, 3),
                "shift": draw.tensor(CHANNELS),
                "dilation": 2,
            },
        ),
        Call("depthwise_weight_gradient", {"features": features, "gradients": features, "dilation": 2}),
        Call("channel_moments", {"features": features}),
    ]


CALLS = valid_calls() if needed.KERNELS.args[0] is False else []
# Arguments that may have other sizes, which decide the shape of the result: maps, and vectors of any number of outputs
# that takes as many panels of packed weights.
FREE = {"maps", "bias", "biases", "next_bias", "project_bias", "scale", "weight"}


def names(calls: list[Call]) -> list[str]:
    return [f"{index}-{call.operator}" for index, call in enumerate(calls)]


def odd_tensors(tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Tensors of other dtypes, devices, dimensions and sizes than `tensor`."""
    for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64):
        yield f"{dtype}", tensor.to(dtype)
    yield "meta", tensor.to("meta")
    yield "sparse", tensor.to_sparse()
    yield "scalar", tensor.new_zeros(())
    yield "empty", tensor.new_zeros(0)
    yield "one dimension more", tensor[None]
    yield "one dimension less", tensor[0]
    yield "flat", tensor.flatten() if tensor.dim() > 1 else tensor[:, None]
    for axis, length in enumerate(tensor.shape):
        for other in {0, 1, length - 1, length + 1, 2 * length} - {length}:
            shape = [*tensor.shape[:axis], other, *tensor.shape[axis + 1 :]]
            yield f"{other} along axis {axis}", tensor.new_ones(shape)


def is_map(name: str, tensor: Tensor) -> bool:
    return name in ("features", "shortcut", "images", "logits", "residual", "gradients", "codes") or tensor.dim() == 5


@pytest.mark.parametrize("call", CALLS, ids=names(CALLS))
def test_odd_tensors_are_refused(call: Call):
    call.run()
    for name, value in call.arguments.items():
        for index, tensor in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(tensor, Tensor):
                continue
            for what, odd in odd_tensors(tensor):
                changed = [*value[:index], odd, *value[index + 1 :]] if isinstance(value, list) else odd
                message = refusal(call, {name: changed})
                if message:
                    named = any(word in message for word in ("expected", "multiples", "outputs", "classes"))
                    assert named or what in ("meta", "sparse"), (name, what, message)
                else:  # other sizes of a map are valid, as are images more or less
                    free = name in FREE or (call.operator, name) == ("gated_classifier", "packed")  # any panels
                    assert free or is_map(name, tensor) or what == "meta", (name, what)
                    assert (odd.dtype, odd.dim()) == (tensor.dtype, tensor.dim()), (name, what)


def refusal(call: Call, changes: dict[str, Any]) -> str:
    """The message of the RuntimeError that a call raises, or an empty string."""
    try:
        call.run(**changes)
    except RuntimeError as error:
        return str(error)
    return ""


ODD_NUMBERS = (-(2**63), -(2**31), -3, -1, 0, 2**31, 2**62, 2**63 - 1)


@pytest.mark.parametrize("call", CALLS, ids=names(CALLS))
def test_odd_numbers_are_refused(call: Call):
    for name, value in call.arguments.items():
        if type(value) is int:
            for number in ODD_NUMBERS:
                with pytest.raises(RuntimeError, match=r"expected|stride must be|tiles must have"):
                    call.run(**{name: number})
        if name == "dilations":
            for number in ODD_NUMBERS:
                with pytest.raises(RuntimeError, match="expected"):
                    call.run(dilations=[number])
            with pytest.raises(RuntimeError, match="expected"):
                call.run(dilations=[])


@pytest.mark.parametrize("call", [call for call in CALLS if "limit" in call.arguments], ids=lambda call: call.operator)
@pytest.mark.parametrize("limit", [nan, 0.0, -1.0, -inf])
def test_odd_limits_are_refused(call: Call, limit: float):
    with pytest.raises(RuntimeError, match="expected `limit` above 0"):
        call.run(limit=limit)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expand": None}, "or neither"),
        ({"expand_bias": None}, "or neither"),
        ({"expand": None, "expand_bias": None}, "expected `taps_bias` of 16"),
        ({"stride": 2}, "a residual needs stride 1"),
        ({"kernel": 4}, "kernel of 3, 5 or 7"),
    ],
)
def test_arguments_of_a_mobile_block_that_do_not_fit_together(changes: dict[str, Any], message: str):
    call = next(call for call in CALLS if call.operator == "inverted_residual")
    with pytest.raises(RuntimeError, match=message):
        call.run(**changes)


@pytest.mark.parametrize("call", CALLS, ids=names(CALLS))
def test_strides_of_arguments_do_not_matter(call: Call):
    """Weights and maps with other strides give the same result: they are not read as if they were contiguous."""
    if call.operator.endswith("_"):
        return  # overwrites an argument
    strided = {
        name: [_strided(tensor) for tensor in value] if isinstance(value, list) and isinstance(value[0], Tensor)
        else _strided(value) if isinstance(value, Tensor) else value
        for name, value in call.arguments.items()
    }  # fmt: skip
    for one, other in zip(_results(call.run()), _results(call.run(**strided)), strict=True):
        assert torch.equal(one, other)


def _strided(tensor: Tensor) -> Tensor:
    """Equal values, with the axes of memory reversed and a gap between values."""
    order = tuple(reversed(range(tensor.dim())))
    return torch.stack([tensor.permute(order), tensor.permute(order) + 1], -1)[..., 0].permute(order)


def _results(result: Any) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("call", CALLS, ids=names(CALLS))
def test_a_batch_of_no_images(call: Call):
    """Empty results of the shape that the declaration gives; sums over no images are zeros, and have no mean."""
    empty = {
        name: [tensor[:0] for tensor in value] if name == "maps" else value[:0]
        for name, value in call.arguments.items()
        if name == "maps" or (isinstance(value, Tensor) and is_map(name, value))
    }
    if call.operator == "pack_taps":
        return
    if call.operator == "channel_moments":
        with pytest.raises(RuntimeError, match="at least one image"):
            call.run(**empty)
        return
    result, full = call.run(**empty), call.run()
    if call.operator.endswith("weight_gradient"):
        assert torch.equal(result, torch.zeros_like(full))
    elif result is not None:
        assert result.shape == (0, *full.shape[1:])
        assert result.dtype == full.dtype


def test_a_residual_that_is_still_read_is_refused():
    draw = Draw(0)
    features = draw.tensor(1, 32, 4, 4).contiguous(memory_format=torch.channels_last)
    packed, bias = packing.pack_pointwise(draw.tensor(32, 32, 1, 1)), draw.tensor(32)
    taps = torch.ops.fastfcn.pack_taps(draw.tensor(32, 32, 3, 3), False)
    with pytest.raises(RuntimeError, match=r"overlap|single memory location|same memory"):
        torch.ops.fastfcn.pointwise_add_(features, features, packed, bias, True, 1)
    with pytest.raises(RuntimeError, match=r"overlap|single memory location|same memory"):
        torch.ops.fastfcn.winograd_add_(features, features, taps, bias, True, 1, 1, 6)


def test_weights_in_channels_last_layout_are_read_correctly():
    """`model.to(memory_format=torch.channels_last)` also changes the strides of packed 3x3 weights."""
    draw = Draw(1)
    features, weight = draw.tensor(1, 16, 9, 7), draw.tensor(32, 16, 3, 3)
    taps = torch.ops.fastfcn.pack_taps(weight, False).contiguous(memory_format=torch.channels_last)
    result = torch.ops.fastfcn.winograd(features, taps, torch.zeros(32), False, 1, 1, 6)
    torch.testing.assert_close(result, F.conv2d(features, weight, padding=1), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("name", ["psp", "aspp", "enc", "official enc", "dilated"])
@pytest.mark.parametrize("method", ["labels", "forward", "logits"])
def test_networks_treat_a_batch_of_no_images_as_plain_pytorch_does(name: str, method: str):
    """The same shape and dtype, or an error in both: some layers of PyTorch refuse empty batches."""
    model = network(name)
    fast, images = optimize(model), torch.zeros(0, 3, 64, 96)

    def outcome(call: Callable[[Tensor], Tensor]) -> Any:
        try:
            with torch.inference_mode():
                result = call(images)
        except RuntimeError:
            return "RuntimeError"
        return tuple(result.shape), result.dtype

    assert outcome(getattr(fast, method)) == outcome(getattr(model, method))
