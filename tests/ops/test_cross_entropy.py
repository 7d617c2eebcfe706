"""Cross-entropy at the labels' size from low-resolution logits, against resizing all logits and PyTorch's loss."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fastfcn.ops import cross_entropy as module
from fastfcn.ops.cross_entropy import strips, upsampled_cross_entropy
from fastfcn.ops.upsample import interpolation_matrix
from fastfcn.utils.sizes import IGNORE_INDEX

Size = tuple[int, int]
# (shape of the logits, size of the labels): integer and other ratios, up, down, equal, one axis only, single pixels.
SHAPES: list[tuple[tuple[int, int, int, int], Size]] = [
    ((2, 5, 4, 8), (32, 64)),
    ((3, 19, 9, 13), (67, 99)),
    ((1, 150, 5, 7), (33, 50)),
    ((2, 1, 3, 4), (20, 30)),
    ((2, 4, 12, 17), (7, 9)),
    ((2, 3, 6, 5), (6, 5)),
    ((1, 3, 5, 3), (5, 24)),
    ((2, 3, 1, 1), (9, 4)),
    ((1, 2, 8, 8), (1, 1)),
]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn_labels(batch: int, classes: int, size: Size, ignored: float = 0.3) -> Tensor:
    generator = torch.Generator().manual_seed(classes)
    labels = torch.randint(classes, (batch, *size), generator=generator, dtype=torch.uint8)
    labels[torch.rand(labels.shape, generator=generator) < ignored] = IGNORE_INDEX
    return labels


def plain(logits: Tensor, labels: Tensor, align_corners: bool) -> Tensor:
    """The reference: logits at full size, and PyTorch's loss."""
    full = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=align_corners)
    return F.cross_entropy(full, labels.long(), ignore_index=IGNORE_INDEX, reduction="sum")


def both(logits: Tensor, labels: Tensor, align_corners: bool) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Loss and gradient, of fastfcn and of the reference."""
    actual = upsampled_cross_entropy(logits, labels, align_corners, IGNORE_INDEX)
    expected = plain(logits, labels, align_corners)
    return tuple((loss, torch.autograd.grad(loss, logits)[0]) for loss in (actual, expected))  # type: ignore[return-value]


@pytest.fixture(params=[None, 1, 2000], ids=["one strip", "single rows", "several rows"])
def high(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heights of the strips."""
    if request.param:
        monkeypatch.setattr(module, "CPU_STRIP", request.param)


@pytest.mark.usefixtures("high")
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_equals_the_plain_path(shape: tuple[int, int, int, int], size: Size, align_corners: bool):
    logits, labels = (3 * random(*shape)).requires_grad_(), drawn_labels(shape[0], shape[1], size)
    actual, expected = both(logits, labels, align_corners)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_float32_is_as_exact_as_the_plain_path():
    exact, labels = (5 * random(2, 150, 16, 24)).requires_grad_(), drawn_labels(2, 150, (128, 192))
    truth = plain(exact, labels, False)
    slope = torch.autograd.grad(truth, exact)[0]
    actual, expected = both(exact.detach().float().requires_grad_(), labels, False)
    assert actual[0].dtype == actual[1].dtype == torch.float32
    assert abs(actual[0].double() - truth) < 1e-6 * truth
    assert (actual[1] - slope).abs().max() < 2 * (expected[1] - slope).abs().max()


@pytest.mark.parametrize("align_corners", [False, True])
def test_gradient_is_that_of_the_loss(align_corners: bool):
    logits, labels = random(2, 4, 3, 5).requires_grad_(), drawn_labels(2, 4, (11, 13))
    assert torch.autograd.gradcheck(
        lambda value: upsampled_cross_entropy(value, labels, align_corners, IGNORE_INDEX), logits
    )


@pytest.mark.parametrize("store", ["channels_last", "every other", "transposed"])
def test_any_memory_format(store: str):
    logits, labels = random(2, 6, 8, 10), drawn_labels(2, 6, (40, 50))
    match store:
        case "channels_last":
            stored = logits.contiguous(memory_format=torch.channels_last)
        case "every other":
            stored = torch.stack([logits, logits + 1], dim=-1)[..., 0]
        case _:
            stored = logits.transpose(2, 3).contiguous().transpose(2, 3)
    assert not stored.is_contiguous()
    actual, _ = both(stored.requires_grad_(), labels, False)
    _, expected = both(logits.requires_grad_(), labels, False)
    torch.testing.assert_close(actual, expected)
    if store == "channels_last":
        assert actual[1].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_labels_of_any_integer_type(kind: torch.dtype):
    logits, labels = random(2, 5, 4, 4).requires_grad_(), drawn_labels(2, 5, (17, 19))
    actual = upsampled_cross_entropy(logits, labels.to(kind), False, IGNORE_INDEX)
    torch.testing.assert_close(actual, plain(logits, labels, False))


def test_labels_stay_as_they_are():
    labels = drawn_labels(1, 5, (9, 9)).long()
    before = labels.clone()
    upsampled_cross_entropy(random(1, 5, 3, 3).requires_grad_(), labels, False, IGNORE_INDEX)
    assert torch.equal(labels, before)


def test_without_labels_loss_and_gradient_are_zero():
    logits = (1e3 * random(2, 5, 4, 4)).requires_grad_()
    loss = upsampled_cross_entropy(logits, torch.full((2, 9, 9), IGNORE_INDEX), False, IGNORE_INDEX)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_very_different_logits_neither_overflow_nor_underflow():
    logits = (1e4 * random(1, 5, 4, 4)).requires_grad_()
    actual, expected = both(logits, drawn_labels(1, 5, (16, 16)), False)
    assert actual[0].isfinite()
    torch.testing.assert_close(actual, expected)


def test_a_label_that_is_not_a_class_is_refused():
    with pytest.raises((RuntimeError, IndexError), match="out of bounds"):
        upsampled_cross_entropy(random(1, 5, 3, 3), torch.full((1, 9, 9), 5, dtype=torch.uint8), False, IGNORE_INDEX)


def test_what_comes_in_is_scaled_and_may_come_twice():
    logits, labels = random(2, 5, 4, 6).requires_grad_(), drawn_labels(2, 5, (16, 24))
    loss = upsampled_cross_entropy(logits, labels, False, IGNORE_INDEX)
    (expected,) = torch.autograd.grad(plain(logits, labels, False), logits)
    for factor in (0.25, -3.0):
        (actual,) = torch.autograd.grad(factor * loss, logits, retain_graph=True)
        torch.testing.assert_close(actual, factor * expected)


def test_the_gradient_of_the_gradient_is_refused():
    logits, labels = random(1, 5, 4, 4).requires_grad_(), drawn_labels(1, 5, (16, 16))
    loss = upsampled_cross_entropy(logits, labels, False, IGNORE_INDEX)
    with pytest.raises(RuntimeError, match="create_graph"):
        torch.autograd.grad(loss, logits, create_graph=True)


def test_inside_autocast_it_stays_exact():
    logits, labels = random(1, 5, 4, 4).float(), drawn_labels(1, 5, (16, 16))
    with torch.autocast("cpu", torch.bfloat16):
        actual = upsampled_cross_entropy(logits, labels, False, IGNORE_INDEX)
    torch.testing.assert_close(actual, plain(logits, labels, False), rtol=1e-6, atol=0)


class Largest(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        made = function(*arguments, **(named or {}))
        for output in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(output, Tensor):
                self.elements = max(self.elements, output.numel())
        return made


def test_full_size_scores_never_exist(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CPU_STRIP", 8 * 150 * 64)  # eight rows
    logits, labels = random(2, 150, 8, 8).requires_grad_(), drawn_labels(2, 150, (64, 64))
    with Largest() as ours:
        upsampled_cross_entropy(logits, labels, False, IGNORE_INDEX).backward()
    with Largest() as theirs:
        plain(logits, labels, False).backward()
    assert theirs.elements == 2 * 150 * 64 * 64
    assert ours.elements <= theirs.elements / 8


def test_no_gradient_is_computed_if_none_is_needed():
    labels = drawn_labels(1, 5, (16, 16))
    with torch.no_grad():
        loss = upsampled_cross_entropy(random(1, 5, 4, 4).requires_grad_(), labels, False, IGNORE_INDEX)
    assert not loss.requires_grad
    assert not upsampled_cross_entropy(random(1, 5, 4, 4), labels, False, IGNORE_INDEX).requires_grad


@pytest.mark.parametrize("align_corners", [False, True])
def test_strips_hold_every_row_that_counts(align_corners: bool):
    """The interpolation matrix is zero outside of a strip's rows; float32 has the largest rounding of positions."""
    for before in (1, 2, 3, 7, 16, 33):
        for after in (1, 2, 5, 16, 49, 128, 263):
            matrix = interpolation_matrix(after, before, torch.zeros(()), align_corners)
            covered = 0
            for top, bottom, first, last in strips(before, after, 5, align_corners):
                assert top == covered
                covered = bottom
                assert not matrix[top:bottom, :first].any()
                assert not matrix[top:bottom, last:].any()
            assert covered == after
