"""Segmentation maps computed in strips against resizing all logits, once or twice, and argmax."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn.ops import upsample as module
from fastfcn.ops.upsample import label_type, mean_softmax_labels, upsample, upsample_labels, upsampled_strips
from tests.helpers.gpu_waits import cuda_autocast, no_gpu_waits

Size = tuple[int, int]
# (size of the logits, sizes they are resized through): up, down, one axis only, single rows and pixels, composed.
RESIZES: list[tuple[Size, list[Size]]] = [
    ((9, 13), [(67, 99)]),
    ((1, 1), [(5, 7)]),
    ((1, 6), [(1, 41)]),
    ((5, 3), [(5, 24)]),
    ((4, 7), [(29, 7)]),
    ((20, 31), [(11, 17)]),
    ((8, 8), [(1, 1)]),
    ((6, 10), [(6, 10)]),
    ((8, 12), [(61, 93), (45, 70)]),
    ((8, 12), [(61, 93), (123, 187)]),
    ((8, 12), [(64, 96), (64, 96)]),
    ((5, 5), [(40, 40), (17, 80), (31, 9)]),
]


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def resized(logits: Tensor, sizes: list[Size], align_corners: bool) -> Tensor:
    """The reference: the full map resized to each size in turn."""
    for size in sizes:
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=align_corners)
    return logits


def assert_equal_classes(labels: Tensor, logits: Tensor) -> None:
    """`labels` must be the argmax of `logits` except where two logits are equal up to rounding."""
    if logits.shape[1] == 1:
        assert not labels.any()
        return
    best = logits.topk(2, dim=1).values
    clear = best[:, 0] - best[:, 1] > 1e-4
    assert clear.float().mean() > 0.98
    assert labels.shape == clear.shape
    assert torch.equal(labels[clear].long(), logits.argmax(1)[clear])


@pytest.fixture(params=[None, 1, 500], ids=["one strip", "single rows", "several rows"])
def strips(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heights of the strips."""
    if request.param:
        monkeypatch.setattr(module, "STRIP_ELEMENTS", request.param)


@pytest.mark.usefixtures("strips")
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("before", "sizes"), RESIZES)
def test_strips_equal_the_full_map(before: Size, sizes: list[Size], align_corners: bool):
    logits = random(2, 5, *before)
    actual = torch.cat(list(upsampled_strips(logits, sizes, align_corners)), dim=2)
    torch.testing.assert_close(actual, resized(logits, sizes, align_corners), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("strips")
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("before", "sizes"), RESIZES)
def test_labels_are_the_argmax(before: Size, sizes: list[Size], align_corners: bool):
    logits = random(2, 7, *before, seed=1)
    labels = upsample_labels(logits, sizes, align_corners)
    assert labels.dtype == torch.uint8
    assert_equal_classes(labels, resized(logits, sizes, align_corners))


@pytest.mark.parametrize("classes", [1, 2, 19, 150, 256, 300])
def test_any_number_of_classes(classes: int):
    logits = random(1, classes, 5, 8)
    labels = upsample_labels(logits, [(37, 61)])
    assert labels.dtype == label_type(classes) == (torch.uint8 if classes <= 256 else torch.int64)
    assert_equal_classes(labels, resized(logits, [(37, 61)], False))


@pytest.mark.usefixtures("strips")
def test_ties_go_to_the_lowest_class():
    logits = torch.zeros(2, 6, 5, 9)
    logits[:, 2] = logits[:, 4] = 1.0
    assert torch.equal(upsample_labels(logits, [(33, 70)]), torch.full((2, 33, 70), 2, dtype=torch.uint8))
    assert not upsample_labels(torch.zeros(1, 6, 5, 9), [(33, 70)]).any()
    view = (logits, [(33, 70)])
    assert torch.equal(mean_softmax_labels([view, view]), torch.full((2, 33, 70), 2, dtype=torch.uint8))


@pytest.mark.usefixtures("strips")
@pytest.mark.parametrize("layout", ["channels_last", "transposed", "sliced", "expanded"])
def test_any_memory_layout(layout: str):
    match layout:
        case "channels_last":
            logits = random(2, 7, 9, 13).contiguous(memory_format=torch.channels_last)
        case "transposed":
            logits = random(2, 7, 13, 9).transpose(2, 3)
        case "sliced":
            logits = random(2, 7, 18, 26).flip(-1)[:, :, ::2, ::2]
        case "expanded":
            logits = random(1, 7, 9, 13).expand(2, -1, -1, -1)
    sizes = [(70, 101), (44, 60)]
    assert_equal_classes(upsample_labels(logits, sizes), resized(logits.contiguous(), sizes, False))


def test_bfloat16_keeps_its_type():
    logits = random(1, 5, 8, 8).bfloat16()
    strip = next(upsampled_strips(logits, [(64, 64)]))
    assert strip.dtype == torch.bfloat16
    torch.testing.assert_close(strip.float(), resized(logits.float(), [(64, 64)], False), rtol=0.02, atol=0.03)


@pytest.mark.parametrize("align_corners", [False, True])
def test_gradients_equal_those_of_the_full_map(align_corners: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "STRIP_ELEMENTS", 400)
    logits, sizes = random(2, 3, 6, 5, dtype=torch.float64).requires_grad_(), [(31, 40), (20, 27)]
    upstream = random(2, 3, 20, 27, seed=5, dtype=torch.float64)
    actual = torch.cat(list(upsampled_strips(logits, sizes, align_corners)), dim=2)
    ours = torch.autograd.grad(actual, logits, upstream)[0]
    plain = torch.autograd.grad(resized(logits, sizes, align_corners), logits, upstream)[0]
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(300, 70), (17, 1000)])
def test_strips_stay_within_their_limit(size: Size, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "STRIP_ELEMENTS", 20_000)
    heights = []
    for strip in upsampled_strips(random(1, 4, 6, 9), [(50, 50), size]):
        assert strip.shape[3] == size[1]
        assert strip.numel() <= 20_000
        heights.append(strip.shape[2])
    assert sum(heights) == size[0]
    assert len(heights) > 1


@pytest.mark.usefixtures("strips")
@pytest.mark.parametrize("align_corners", [False, True])
def test_votes_are_the_mean_of_the_softmax(align_corners: bool):
    size = (45, 71)
    views = [
        (random(2, 6, 6, 9, seed=1) * 3, [(45, 71), size]),
        (random(2, 6, 4, 7, seed=2) * 3, [(25, 50), size]),
        (random(2, 6, 11, 15, seed=3) * 3, [(87, 119), size]),
        (random(2, 6, 11, 15, seed=4).flip(-1) * 3, [(87, 119), size]),
    ]
    votes = torch.stack([resized(logits, sizes, align_corners).softmax(1) for logits, sizes in views]).mean(0)
    labels = mean_softmax_labels(views, align_corners)
    assert labels.dtype == torch.uint8
    assert_equal_classes(labels, votes)
    # Not the argmax of the mean logits, which differs.
    logits = torch.stack([resized(logits, sizes, align_corners) for logits, sizes in views]).mean(0)
    assert not torch.equal(labels.long(), logits.argmax(1))


def test_upsample_leaves_the_right_size_alone():
    logits = random(1, 2, 4, 6)
    assert upsample(logits, (4, 6)) is logits
    assert upsample(logits, torch.Size((4, 6))) is logits
    for align_corners in (False, True):
        expected = resized(logits, [(9, 8)], align_corners)
        torch.testing.assert_close(upsample(logits, (9, 8), align_corners), expected)


@pytest.mark.parametrize("align_corners", [False, True])
def test_positions_are_those_of_torch(align_corners: bool):
    """Bit for bit the same as on the device of the logits, in float32."""
    generator = np.random.default_rng(0)
    for before, after in generator.integers(1, 2500, (200, 2)).tolist():
        rows = torch.arange(after, dtype=torch.float32)
        if align_corners:
            position = rows * ((before - 1) / max(after - 1, 1))
        else:
            position = ((rows + 0.5) * (before / after) - 0.5).clamp(min=0)
        top = int(generator.integers(after))
        expected = position[top : top + 50]
        bottom = top + len(expected)
        first, last, low, high, fraction = module._source_rows(top, bottom, before, after, align_corners)
        floor = expected.floor().long().clamp(max=before - 1)
        assert torch.equal(low + first, floor)
        assert torch.equal(high + first, (floor + 1).clamp(max=before - 1))
        assert torch.equal(fraction, expected - floor)
        assert (first, last) == (floor[0], high[-1] + first + 1)


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_nothing_waits_for_a_gpu(device: str):
    with no_gpu_waits():
        logits = torch.empty(1, 150, 64, 86, device=device)
        sizes = [(512, 683), (768, 1024)]
        assert upsample_labels(logits, sizes).shape == (1, 768, 1024)
        assert mean_softmax_labels([(logits, sizes), (logits, sizes[1:])]).device.type == device


@pytest.mark.parametrize("align_corners", [False, True])
def test_features_in_half_precision_have_the_gradient_of_float32(align_corners: bool):
    features = random(2, 3, 4, 6).bfloat16().requires_grad_()
    upsampled = module._UpsampleHalf.apply(features, (15, 24), align_corners)
    assert torch.equal(upsampled, F.interpolate(features, (15, 24), mode="bilinear", align_corners=align_corners))
    gradient = random(2, 3, 15, 24, seed=1).bfloat16()
    (actual,) = torch.autograd.grad(upsampled, features, gradient)
    single = features.detach().float().requires_grad_()
    (expected,) = torch.autograd.grad(
        F.interpolate(single, (15, 24), mode="bilinear", align_corners=align_corners), single, gradient.float()
    )
    assert torch.equal(actual, expected.bfloat16())


def test_features_stay_in_half_precision_under_autocast_on_a_gpu():
    with no_gpu_waits(), cuda_autocast():
        for dtype in (torch.bfloat16, torch.float32):
            features = torch.zeros(1, 4, 3, 5, dtype=dtype, device="cuda")
            assert module.upsample_features(features, (6, 10)).dtype == dtype
            assert upsample(features, (6, 10)).dtype == torch.float32
