"""Every operator against the same in plain torch, in float64, over shapes drawn at random."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn import kernels
from fastfcn.kernels import weights as forms
from fastfcn.ops.encoding import encode
from fastfcn.ops.upsample import upsample_labels
from tests.drawn_tensors import Draw

pytestmark = pytest.mark.skipif(not kernels.available(), reason="the kernels could not be built here")
TOLERANCE = {"rtol": 0, "atol": 2e-4}  # of results of unit variance, in float32


def convolved(
    features: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, relu: bool, **settings
) -> Tensor:
    result = F.conv2d(features.double(), weight.double(), bias.double(), **settings)
    result = result if residual is None else result + residual.double()
    return (result.relu() if relu else result).float()


@pytest.mark.parametrize("seed", range(24))
def test_pointwise(seed: int):
    draw = Draw(seed)
    inputs, outputs = draw.number(1, 70), [1, 19, 150, 64, 33, 32][seed % 6]
    stride, relu = 1 + seed % 3, bool(seed % 2)
    features = draw.features(draw.number(1, 3), inputs, draw.number(1, 21), draw.number(1, 33))
    weight, bias = draw.tensor(outputs, inputs, 1, 1) / inputs**0.5, draw.tensor(outputs)
    expected = convolved(features, weight, bias, None, relu, stride=stride)
    settings = (features, forms.pack_pointwise(weight), bias, relu, stride)
    torch.testing.assert_close(torch.ops.fastfcn.pointwise(*settings), expected, **TOLERANCE)
    residual = draw.features(*expected.shape)
    expected = convolved(features, weight, bias, residual, relu, stride=stride)
    torch.ops.fastfcn.pointwise_onto(residual, *settings)
    torch.testing.assert_close(residual, expected, **TOLERANCE)


@pytest.mark.parametrize("seed", range(12))
def test_pointwise_pair(seed: int):
    draw = Draw(seed)
    inputs, others, outputs, stride = draw.number(1, 70), draw.number(1, 70), [19, 64, 150][seed % 3], 1 + seed % 2
    shortcut = draw.features(draw.number(1, 3), others, draw.number(1, 21), draw.number(1, 33))
    weight, other = draw.tensor(outputs, inputs, 1, 1) / inputs**0.5, draw.tensor(outputs, others, 1, 1) / others**0.5
    bias = draw.tensor(outputs)
    residual = convolved(shortcut, other, torch.zeros(outputs), None, False, stride=stride)
    features = draw.features(shortcut.shape[0], inputs, *residual.shape[-2:])
    found = torch.ops.fastfcn.pointwise_pair(
        features, forms.pack_pointwise(weight), bias, True, shortcut, forms.pack_pointwise(other), stride
    )
    torch.testing.assert_close(found, convolved(features, weight, bias, residual, True), **TOLERANCE)


def test_pointwise_of_many_channels_and_pixels():
    """Longer than a part of k, rows that share places of the cache, and more pixels than a block."""
    draw = Draw(0)
    features, weight, bias = draw.features(2, 2048, 11, 13), draw.tensor(96, 2048, 1, 1) / 45, draw.tensor(96)
    settings = (features, forms.pack_pointwise(weight), bias, False, 1)
    expected = convolved(features, weight, bias, None, False)
    torch.testing.assert_close(torch.ops.fastfcn.pointwise(*settings), expected, **TOLERANCE)
    residual = torch.ones_like(expected)
    torch.ops.fastfcn.pointwise_onto(residual, *settings)
    torch.testing.assert_close(residual, expected + 1, **TOLERANCE)


@pytest.mark.parametrize("longest", [3, 4, 5, 6])
@pytest.mark.parametrize("seed", range(8))
def test_winograd(longest: int, seed: int):
    draw = Draw(seed)
    inputs, outputs = 16 * draw.number(1, 4), 16 * draw.number(1, 4)
    stride, dilation = [(1, 1), (1, 2), (1, 4), (1, 12), (1, 36), (2, 1), (1, 3), (2, 1)][seed]
    features = draw.features(draw.number(1, 3), inputs, draw.number(1, 23), draw.number(1, 31))
    weight, bias = draw.tensor(outputs, inputs, 3, 3) / (3 * inputs**0.5), draw.tensor(outputs)
    winograd_is_right(draw, features, weight, bias, bool(seed % 2), (stride, dilation, longest))


def winograd_is_right(
    draw: Draw, features: Tensor, weight: Tensor, bias: Tensor, relu: bool, window: tuple[int, int, int]
) -> None:
    """By itself, into lines of the cache, and onto a residual. `window`: stride, dilation and longest tile."""
    stride, dilation, _ = window
    options = {"padding": dilation, "dilation": dilation, "stride": stride}
    settings = (features, torch.ops.fastfcn.pack_taps(weight, False), bias, relu, *window)
    expected = convolved(features, weight, bias, None, relu, **options)
    found = torch.ops.fastfcn.winograd(*settings)
    torch.testing.assert_close(found, expected, **TOLERANCE)
    assert torch.equal(torch.ops.fastfcn.winograd(*settings, True), in_lines(found))
    residual = draw.features(*expected.shape)
    expected = convolved(features, weight, bias, residual, relu, **options)
    torch.ops.fastfcn.winograd_onto(residual, *settings)
    torch.testing.assert_close(residual, expected, **TOLERANCE)


def in_lines(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C / 16, H, W, 16), C a multiple of 16."""
    return features.unflatten(1, (-1, forms.LINE)).permute(0, 1, 3, 4, 2).contiguous()


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 2), (3, 1), (5, 2), (7, 11), (13, 4), (6, 12), (16, 9)])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (1, 3), (2, 1), (2, 2), (2, 4)])
def test_winograd_of_every_length_of_tile(size: tuple[int, int], stride: int, dilation: int):
    """Maps of one and two pixels, and of several, whose tiles have unequal lengths."""
    draw = Draw(sum(size))
    features, weight = draw.features(2, 16, *(side * dilation for side in size)), draw.tensor(32, 16, 3, 3) / 12
    for longest in (3, 4, 5, 6):
        winograd_is_right(draw, features, weight, torch.zeros(32), False, (stride, dilation, longest))


@pytest.mark.parametrize(
    ("inputs", "outputs", "stride", "dilation"), [(32, 48, 1, 1), (128, 96, 1, 3), (16, 16, 1, 1), (64, 48, 2, 1)]
)
def test_winograd_of_few_channels_and_many_tiles(inputs: int, outputs: int, stride: int, dilation: int):
    """Each thread takes tiles of its own from inputs to results; the last block is not full."""
    draw = Draw(inputs)
    features, weight = draw.features(2, inputs, 97, 131), draw.tensor(outputs, inputs, 3, 3) / (3 * inputs**0.5)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # which share the tiles
    try:
        winograd_is_right(draw, features, weight, draw.tensor(outputs), True, (stride, dilation, 6))
    finally:
        torch.set_num_threads(threads)


def test_winograd_in_several_parts():
    """More tiles than the workspace holds at once, and more channels than are worked off at once."""
    draw = Draw(1)
    features, weight, bias = draw.features(3, 1024, 52, 64), draw.tensor(16, 1024, 3, 3) / 96, draw.tensor(16)
    found = torch.ops.fastfcn.winograd(features, torch.ops.fastfcn.pack_taps(weight, False), bias, False, 1, 1, 6)
    torch.testing.assert_close(found, F.conv2d(features, weight, bias, padding=1), **TOLERANCE)


def test_winograd_of_a_map_that_no_cache_holds():
    """Its results are written past the caches; an odd size, so that tiles reach beyond the map."""
    draw = Draw(2)
    features, weight, bias = draw.features(2, 16, 365, 371), draw.tensor(32, 16, 3, 3) / 12, draw.tensor(32)
    taps, expected = torch.ops.fastfcn.pack_taps(weight, False), F.conv2d(features, weight, bias, padding=1).relu()
    assert expected[0].numel() > 4 << 20
    found = torch.ops.fastfcn.winograd(features, taps, bias, True, 1, 1, 6)
    torch.testing.assert_close(found, expected, **TOLERANCE)


@pytest.mark.parametrize(
    ("factors", "dilations"), [((2, 4), (1, 2, 4, 8)), ((2, 4), (2, 6)), ((2, 4), (4, 12, 1)), ((3, 6), (3, 6, 9))]
)
@pytest.mark.parametrize("size", [(32, 48), (16, 16), (8, 36), (4, 4)])
def test_jpu_of_maps_of_whole_factors(size: tuple[int, int], factors: tuple[int, ...], dilations: tuple[int, ...]):
    """Where a dilation is a multiple of half a map's factor, all taps pass its pixels at the same few places."""
    draw = Draw(sum(size))
    width, outputs = 32, 48
    height, length = (side // factors[1] * factors[1] or factors[1] for side in size)
    maps = [draw.features(2, width, height // factor, length // factor) for factor in (1, *factors)]
    depthwise = [draw.tensor(3 * width, 1, 3, 3) / 3 for _ in dilations]
    pointwise = [draw.tensor(outputs, 3 * width, 1, 1) / (3 * width) ** 0.5 for _ in dilations]
    check_jpu(maps, depthwise, pointwise, draw.tensor(len(dilations), outputs), dilations, False)


def check_jpu(maps, depthwise, pointwise, bias, dilations, align_corners) -> None:
    """JPU alone, of maps in lines of the cache, and with a 1x1 convolution and its ReLU behind it."""
    settings = (
        torch.stack([forms.slices(each) for each in depthwise]),
        torch.stack([forms.pack_pointwise(each) for each in pointwise]), bias, dilations, align_corners,
    )  # fmt: skip
    expected = plain_jpu(maps, depthwise, pointwise, bias, dilations, align_corners)
    found = torch.ops.fastfcn.jpu(maps, *settings)
    torch.testing.assert_close(found, expected, **TOLERANCE)
    if maps[0].shape[1] % forms.LINE == 0:
        assert torch.equal(torch.ops.fastfcn.jpu([in_lines(each) for each in maps], *settings), found)
        assert torch.equal(torch.ops.fastfcn.jpu([in_lines(maps[0]), *maps[1:]], *settings), found)
    draw, inputs = Draw(expected.shape[1]), expected.shape[1]
    outputs = 16 * draw.number(1, 5)
    weight, bias = draw.tensor(outputs, inputs, 1, 1) / inputs**0.5, draw.tensor(outputs)
    found = torch.ops.fastfcn.jpu(maps, *settings, forms.pack_pointwise(weight), bias)
    torch.testing.assert_close(found, convolved(expected, weight, bias, None, True), **TOLERANCE)


def plain_jpu(maps, depthwise, pointwise, bias, dilations, align_corners) -> Tensor:
    size = maps[0].shape[-2:]
    resized = [F.interpolate(each, size, mode="bilinear", align_corners=align_corners) for each in maps]
    joined = torch.cat(resized, 1).double()
    branches = []
    for depth, point, each, dilation in zip(depthwise, pointwise, bias, dilations, strict=True):
        wide = F.conv2d(joined, depth.double(), padding=dilation, dilation=dilation, groups=joined.shape[1])
        branches.append(F.conv2d(wide, point.double(), each.double()).relu())
    return torch.cat(branches, 1).float()


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_jpu(seed: int, align_corners: bool):
    draw = Draw(seed)
    width, outputs, height, length = 16 * draw.number(1, 3), draw.number(1, 70), draw.number(1, 30), draw.number(1, 40)
    dilations = [(1, 2, 4, 8), (1,), (3, 12)][seed % 3]
    sizes = [(max(height >> level, 1), (length + level) // (level + 1)) for level in range(3)]
    maps = [draw.features(1 + seed % 2, width, *size) for size in sizes]
    depthwise = [draw.tensor(3 * width, 1, 3, 3) / 3 for _ in dilations]
    pointwise = [draw.tensor(outputs, 3 * width, 1, 1) / (3 * width) ** 0.5 for _ in dilations]
    bias = draw.tensor(len(dilations), outputs)
    check_jpu(maps, depthwise, pointwise, bias, dilations, align_corners)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    ("sizes", "dilations"),
    [
        # also with dilations beyond all edges: each tap passes pixels at places of its own
        (((33, 47), (17, 24), (9, 12)), (1, 3, 12, 40)),
        (((20, 12), (5, 3)), (1, 3, 12, 40)),
        (((7, 150), (1, 2)), (1, 3, 12, 40)),
        (((16, 16), (1, 1)), (1, 3, 12, 40)),
        # a dilation is about a whole number of steps: the taps pass pixels at nearly the same places
        (((64, 96), (32, 48), (16, 24)), (4, 8, 12, 64)),  # with aligned corners 4 is 0.95 steps of the smallest map
        (((61, 45), (16, 12)), (4, 8, 12, 64)),  # and 1 step here
        (((47, 90), (12, 23)), (4, 8, 12, 64)),
        (((25, 25), (3, 3)), (4, 8, 12, 64)),
        (((90, 7), (1, 1)), (4, 8, 12, 64)),
    ],
)
def test_jpu_of_maps_resized_much(sizes: tuple[tuple[int, int], ...], dilations: tuple[int, ...], align_corners: bool):
    """Such maps are convolved before they are resized."""
    draw = Draw(len(sizes))
    width, outputs, levels = 32, 48, len(sizes)
    maps = [draw.features(2, width, *size) for size in sizes]
    depthwise = [draw.tensor(levels * width, 1, 3, 3) / 3 for _ in dilations]
    pointwise = [draw.tensor(outputs, levels * width, 1, 1) / (levels * width) ** 0.5 for _ in dilations]
    check_jpu(maps, depthwise, pointwise, draw.tensor(len(dilations), outputs), dilations, align_corners)


def test_jpu_of_maps_that_end_within_a_line_of_the_cache():
    """Of a map's last line only the channels there are take part, where a vector is shorter than a line."""
    draw = Draw(0)
    width, dilations = 3 * torch.ops.fastfcn.lanes(), (1, 2)
    maps = [draw.features(2, width, 21 >> level, 26 >> level) for level in range(3)]
    depthwise = [draw.tensor(3 * width, 1, 3, 3) / 3 for _ in dilations]
    pointwise = [draw.tensor(48, 3 * width, 1, 1) / (3 * width) ** 0.5 for _ in dilations]
    check_jpu(maps, depthwise, pointwise, draw.tensor(2, 48), dilations, True)


@pytest.mark.parametrize("seed", range(8))
def test_max_pool(seed: int):
    draw = Draw(seed)
    features = draw.features(draw.number(1, 3), draw.number(1, 70), draw.number(1, 21), draw.number(1, 33))
    assert torch.equal(torch.ops.fastfcn.max_pool(features - 1), F.max_pool2d(features - 1, 3, 2, 1))


def check_winograd_pool(draw: Draw, inputs: int, outputs: int, size: tuple[int, int], longest: int) -> None:
    features = draw.features(draw.number(1, 3), inputs, *size)
    weight, bias = draw.tensor(outputs, inputs, 3, 3) / (3 * inputs**0.5), draw.tensor(outputs)
    found = torch.ops.fastfcn.winograd_pool(features, torch.ops.fastfcn.pack_taps(weight, False), bias, longest)
    wide = convolved(features, weight, bias, None, True, padding=1)
    torch.testing.assert_close(found, F.max_pool2d(wide, 3, 2, 1), **TOLERANCE)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("longest", [3, 4, 5, 6])
def test_winograd_pool(longest: int, threads: int):
    """Sizes down to one pixel; strips of several rows of tiles that begin inside an image or with one; several parts of
    a row, the last of them of an odd width."""
    draw, before = Draw(longest + 10 * threads), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for size in ((1, 1), (2, 3), (7, 5), (12, 24), (31, 19), (25, 115)):
            check_winograd_pool(draw, 16 * draw.number(1, 4), 16 * draw.number(1, 4), size, longest)
    finally:
        torch.set_num_threads(before)


def test_winograd_pool_of_many_channels():
    """More weights than are transformed at once."""
    check_winograd_pool(Draw(0), 160, 176, (14, 9), 6)


@pytest.mark.parametrize("seed", range(12))
def test_stem(seed: int):
    """Sizes down to one pixel; a result that no ReLU is behind would show in the pooling's borders."""
    draw = Draw(seed)
    kernel, outputs = [7, 3, 5, 1][seed % 4], 2 * torch.ops.fastfcn.lanes() * draw.number(1, 3)
    images = draw.features(draw.number(1, 3), 3, draw.number(1, 70), draw.number(1, 110))
    weight, bias = draw.tensor(outputs, 3, kernel, kernel) / kernel, draw.tensor(outputs)
    packed = forms.pack(weight.permute(2, 3, 1, 0).flatten(0, 2))
    wide = convolved(images, weight, bias, None, True, stride=2, padding=kernel // 2)
    for pool, expected in ((True, F.max_pool2d(wide, 3, 2, 1)), (False, wide)):
        torch.testing.assert_close(torch.ops.fastfcn.stem(images, packed, bias, kernel, pool), expected, **TOLERANCE)


def test_stem_of_a_large_map():
    """Its results are written past the caches."""
    draw = Draw(0)
    images, weight, bias = draw.features(1, 3, 330, 810), draw.tensor(64, 3, 3, 3), draw.tensor(64)
    packed = forms.pack(weight.permute(2, 3, 1, 0).flatten(0, 2))
    wide = convolved(images, weight, bias, None, True, stride=2, padding=1)
    assert wide.numel() > 4 << 20
    torch.testing.assert_close(torch.ops.fastfcn.stem(images, packed, bias, 3, False), wide, **TOLERANCE)


@pytest.mark.parametrize("seed", range(8))
def test_bottlenecks(seed: int):
    draw = Draw(seed)
    inputs, width, narrow, stride = draw.number(1, 70), draw.number(1, 70), 16 * draw.number(1, 4), 1 + seed % 2
    dilations = [draw.number(1, 4) for _ in range(draw.number(1, 4))]
    if stride == 2:
        dilations[0] = [1, 2, 4][seed // 2 % 3]
    features = draw.features(draw.number(1, 3), inputs, draw.number(1, 21), draw.number(1, 33))
    expected, weights, biases = features, [], []
    for block, dilation in enumerate(dilations):
        sizes = [(narrow, width if block else inputs, 1, 1), (narrow, narrow, 3, 3), (width, narrow, 1, 1)]
        reduce, middle, last = (draw.tensor(*size) / (size[1] * size[2] ** 2) ** 0.5 for size in sizes)
        own = [draw.tensor(len(weight)) for weight in (reduce, middle, last)]
        every = 1 if block else stride
        shortcut = expected
        if block == 0:
            across = draw.tensor(width, inputs, 1, 1) / inputs**0.5
            shortcut = convolved(features, across, torch.zeros(width), None, False, stride=stride)
        inner = convolved(expected, reduce, own[0], None, True)
        inner = convolved(inner, middle, own[1], None, True, stride=every, dilation=dilation, padding=dilation)
        expected = convolved(inner, last, own[2], shortcut, True)
        taps = torch.ops.fastfcn.pack_taps(middle, False)
        weights += [forms.pack_pointwise(reduce), taps, forms.pack_pointwise(last)]
        biases += own
    before = features.clone()
    weights.append(forms.pack_pointwise(across))
    found = torch.ops.fastfcn.bottlenecks(features, weights, biases, stride, dilations, 6)
    torch.testing.assert_close(found, expected, **TOLERANCE)
    assert torch.equal(features, before), "another part of the network may need them"


@pytest.mark.parametrize("seed", range(8))
def test_class_weights(seed: int):
    draw = Draw(seed)
    images, count, channels, classes = draw.number(1, 3), draw.number(1, 40), draw.number(1, 300), draw.number(1, 160)
    codes, scale, shift = draw.tensor(images, count, channels), draw.tensor(count), draw.tensor(count)
    gate, bias = draw.tensor(channels, channels) / channels**0.5, draw.tensor(channels)
    classifier = draw.tensor(classes, channels)
    found = torch.ops.fastfcn.class_weights(codes, scale, shift, gate, bias, forms.pack(classifier.T))
    mean = (codes.double() * scale.double()[:, None] + shift.double()[:, None]).relu().mean(1)
    gamma = F.linear(mean, gate.double(), bias.double()).sigmoid()
    expected = torch.stack([forms.pack((classifier * (1 + each)).T.float()) for each in gamma])
    torch.testing.assert_close(found, expected, **TOLERANCE)


@pytest.mark.parametrize("seed", range(8))
def test_encode(seed: int):
    draw = Draw(seed)
    channels, codes = draw.number(1, 70), draw.number(1, 70)
    features = draw.features(draw.number(1, 3), channels, draw.number(1, 21), draw.number(1, 33))
    codewords = draw.tensor(codes, channels)
    scale = draw.tensor(codes) * 10 ** draw.number(-3, 2)  # from nearly even shares to one codeword that has all
    found = torch.ops.fastfcn.encode(features, forms.pack(codewords.T), scale)
    pixels = features.double().flatten(2).transpose(1, 2)
    differences = pixels[:, :, None] - codewords.double()
    assignment = (scale.double() * differences.square().sum(3)).softmax(2)
    exact = (assignment[..., None] * differences).sum(1)
    plain = encode(pixels.float(), codewords, scale)
    bound = max(2 * (plain - exact).abs().max().item(), 1e-5 * exact.abs().max().item())
    assert (found - exact).abs().max() <= bound


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("classes", [1, 2, 16, 19, 150, 256])
def test_labels(classes: int, align_corners: bool):
    draw = Draw(classes)
    for _ in range(4):
        scores = draw.features(draw.number(1, 3), classes, draw.number(1, 9), draw.number(1, 12))
        size = (draw.number(1, 50), draw.number(1, 70))
        full = F.interpolate(scores.double(), size, mode="bilinear", align_corners=align_corners)
        found = torch.ops.fastfcn.labels(scores, *size, align_corners)
        assert found.dtype == torch.uint8
        chosen = full.gather(1, found.long()[:, None])[:, 0]
        assert (full.amax(1) - chosen).max() < 1e-5, "a class whose score is not the highest"
        same = found == upsample_labels(scores, [size], align_corners)
        assert same.float().mean() > 0.999


@pytest.mark.parametrize("align_corners", [False, True])
def test_labels_of_a_map_made_smaller(align_corners: bool):
    scores = Draw(5).features(1, 7, 40, 100)
    found = torch.ops.fastfcn.labels(scores, 21, 37, align_corners)
    assert (found == upsample_labels(scores, [(21, 37)], align_corners)).float().mean() > 0.999


def test_labels_of_equal_scores_are_the_lowest_class():
    draw = Draw(3)
    two = draw.tensor(1, 1, 6, 7)
    scores = torch.cat([two - 1, two, two - 2, two, two], dim=1)
    found = torch.ops.fastfcn.labels(scores, 48, 56, False)
    assert torch.equal(found, torch.ones_like(found))
    assert torch.equal(
        torch.ops.fastfcn.labels(torch.zeros(1, 40, 3, 3), 9, 9, False), torch.zeros_like(found)[:, :9, :9]
    )


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
        torch.ops.fastfcn.winograd_onto(torch.ones(1, 16, 4, 5), torch.ones(1, 16, 4, 4), taps, bias, False, 1, 1, 6)
    with pytest.raises(RuntimeError, match="multiples"):
        torch.ops.fastfcn.winograd(torch.ones(1, 9, 4, 4), taps, bias, False, 1, 1, 6)
    with pytest.raises(RuntimeError, match="lines of 16 channels cannot hold 24"):
        torch.ops.fastfcn.winograd(torch.ones(1, 16, 4, 4), taps, torch.zeros(24), False, 1, 1, 6, True)
    with pytest.raises(RuntimeError, match="3 to 6 results"):
        torch.ops.fastfcn.winograd(torch.ones(1, 16, 4, 4), taps, bias, False, 1, 1, 7)
    settings = (torch.ones(1, 1, 9, 16), torch.ones(1, 1, 16, 32), torch.zeros(1, 16), [1], False)
    with pytest.raises(RuntimeError, match="outputs in multiples"):
        torch.ops.fastfcn.jpu([torch.ones(1, 16, 4, 4)], *settings, torch.ones(1, 16, 32), torch.zeros(5))
    with pytest.raises(RuntimeError, match="float32 map on the CPU"):
        torch.ops.fastfcn.jpu([torch.ones(1, 1, 4, 4, 16).double()], *settings)
    with pytest.raises(RuntimeError, match="three convolutions"):
        torch.ops.fastfcn.bottlenecks(torch.ones(1, 16, 4, 4), [taps], [bias], 1, [1], 6)
    with pytest.raises(RuntimeError, match="images of 3 channels"):
        torch.ops.fastfcn.stem(torch.ones(1, 4, 4, 4), taps, bias, 7, True)
    with pytest.raises(RuntimeError, match="7x7 taps"):
        torch.ops.fastfcn.stem(torch.ones(1, 3, 4, 4), taps, bias, 7, True)
    with pytest.raises(RuntimeError, match="weights for 2 codes of 16 channels"):
        torch.ops.fastfcn.class_weights(torch.ones(1, 2, 16), bias, bias, bias, bias, taps)
    with pytest.raises(RuntimeError, match="at least one map"):
        torch.ops.fastfcn.jpu([], *settings)
    for scales, inputs in ((3, 15), (100, 16)):
        with pytest.raises(RuntimeError, match="a scale for each"):
            torch.ops.fastfcn.encode(
                torch.ones(1, 16, 4, 4), torch.ones(1, inputs, 2 * torch.ops.fastfcn.lanes()), torch.ones(scales)
            )
    for stride, dilation in ((2, 3), (3, 1)):
        with pytest.raises(RuntimeError, match="stride 1, or 2 and a dilation of 1 or an even one"):
            torch.ops.fastfcn.winograd(torch.ones(1, 16, 4, 4), taps, bias, False, stride, dilation, 6)


def test_operators_are_known_to_torch_compile_and_export():
    draw = Draw(5)
    maps = [draw.tensor(2, 16, 8, 10), draw.tensor(2, 16, 4, 5)]
    weight, bias = draw.tensor(32, 16, 3, 3), draw.tensor(32)
    taps = torch.stack([forms.slices(draw.tensor(32, 1, 3, 3))])
    packed = torch.stack([forms.pack_pointwise(draw.tensor(32, 32, 1, 1))])
    calls = {
        "pointwise": (maps[0], forms.pack_pointwise(weight[:, :, :1, :1]), bias, True, 2),
        "pointwise_onto": (
            draw.tensor(2, 32, 4, 5),
            maps[0],
            forms.pack_pointwise(weight[:, :, :1, :1]),
            bias,
            True,
            2,
        ),
        "pointwise_pair": (
            draw.tensor(2, 16, 4, 5),
            forms.pack_pointwise(weight[:, :, :1, :1]),
            bias,
            True,
            maps[0],
            forms.pack_pointwise(weight[:, :, 1:2, :1]),
            2,
        ),
        "winograd": (maps[0], torch.ops.fastfcn.pack_taps(weight, False), bias, True, 2, 1, 4),
        "winograd_onto": (
            draw.tensor(2, 32, 8, 10),
            maps[0],
            torch.ops.fastfcn.pack_taps(weight, False),
            bias,
            True,
            1,
            1,
            4,
        ),
        "winograd into lines": (maps[0], torch.ops.fastfcn.pack_taps(weight, False), bias, True, 1, 1, 6, True),
        "jpu": (maps, taps, packed, bias[None], [2], False),
        "jpu of maps in lines": ([in_lines(each) for each in maps], taps, packed, bias[None], [2], False),
        "jpu and a convolution behind it": (
            maps,
            taps,
            packed,
            bias[None],
            [2],
            False,
            forms.pack_pointwise(draw.tensor(48, 32, 1, 1)),
            draw.tensor(48),
        ),
        "bottlenecks": (
            maps[0],
            [
                forms.pack_pointwise(draw.tensor(32, 16, 1, 1)),
                torch.ops.fastfcn.pack_taps(draw.tensor(32, 32, 3, 3), False),
                forms.pack_pointwise(draw.tensor(48, 32, 1, 1)),
                forms.pack_pointwise(draw.tensor(48, 16, 1, 1)),
            ],
            [bias, bias, draw.tensor(48)],
            2,
            [1],
            4,
        ),
        "winograd_pool": (maps[0], torch.ops.fastfcn.pack_taps(weight, False), bias, 6),
        "stem": (draw.tensor(2, 3, 9, 14), forms.pack(draw.tensor(27, 32)), bias, 3, True),
        "class_weights": (
            draw.tensor(2, 5, 16),
            draw.tensor(5),
            draw.tensor(5),
            draw.tensor(16, 16),
            draw.tensor(16),
            forms.pack(draw.tensor(16, 40)),
        ),
        "max_pool": (maps[0],),
        "encode": (maps[0], forms.pack(draw.tensor(16, 20)), draw.tensor(20)),
        "labels": (maps[0], 64, 80, False),
    }
    for name, arguments in calls.items():
        torch.library.opcheck(getattr(torch.ops.fastfcn, name.split()[0]).default, arguments)
