"""Losses for rare classes, with gradients, against plain formulas on full-size logits in float64."""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from fastfcn import build, losses
from fastfcn.errors import RecipeError
from fastfcn.losses import (
    BoundaryCrossEntropy,
    CrossEntropy,
    DiceLoss,
    ExtraLoss,
    FocalLoss,
    HardPixels,
    LossTerms,
    LovaszLoss,
    PixelLoss,
    SmoothedCrossEntropy,
    TverskyLoss,
    WeightedCrossEntropy,
    boundary_pixel_loss,
    dice_loss,
    focal_loss,
    hard_pixel_loss,
    lovasz_loss,
    near_boundary,
    pixel_loss,
    segmentation_loss,
    smoothed_pixel_loss,
    tversky_loss,
    weighted_pixel_loss,
    weights_from_counts,
)
from fastfcn.ops import cross_entropy
from fastfcn.ops.cross_entropy import summed_cross_entropy, upsampled_cross_entropy
from fastfcn.training.train import train_step
from fastfcn.utils.sizes import IGNORE_INDEX
from tests.helpers.plain_losses import (
    full_size,
    plain_boundary,
    plain_dice,
    plain_focal,
    plain_hard,
    plain_lovasz,
    plain_smoothed,
    plain_tversky,
    plain_weighted,
)
from tests.helpers.tiny import tiny_model, tiny_recipe

Loss = Callable[[Tensor, Tensor, bool], Tensor]
SIZES = [((3, 4), (17, 23)), ((5, 6), (5, 6)), ((6, 5), (3, 4))]  # up, the same, down


def scores_of(batch: int, classes: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(batch, classes, *size, generator=generator, dtype=torch.float64)).requires_grad_()


def labels_of(batch: int, classes: int, size: tuple[int, int]) -> Tensor:
    """Up to nine classes occur; three of ten pixels are ignored, and all pixels of the last image."""
    generator = torch.Generator().manual_seed(classes)
    labels = torch.randint(0, min(classes, 9), (batch, *size), generator=generator, dtype=torch.uint8)
    labels *= max(classes // 9, 1)
    labels[torch.rand(labels.shape, generator=generator) < 0.3] = IGNORE_INDEX
    labels[-1] = IGNORE_INDEX
    return labels


def weights(classes: int) -> tuple[float, ...]:
    return tuple(0.25 + index % 7 for index in range(classes))


def pairs_of_losses(classes: int) -> list[tuple[str, Loss, Loss]]:
    weighing = {"weights": weights(classes)}
    return [
        ("weighted", partial(weighted_pixel_loss, **weighing), partial(plain_weighted, **weighing)),
        *(
            (f"hard {number}", partial(hard_pixel_loss, **settings), partial(plain_hard, **settings))
            for number, settings in enumerate(
                ({"threshold": 0.3, "min_kept": 0.01}, {"threshold": 0.01, "min_kept": 0.4})
            )
        ),
        ("dice", dice_loss, plain_dice),
        *(
            (f"{ours.__name__} {settings}", partial(ours, **settings), partial(plain, **settings))
            for ours, plain, settings in (
                (smoothed_pixel_loss, plain_smoothed, {"smoothing": 0.1}),
                (focal_loss, plain_focal, {"gamma": 2.0}),
                (focal_loss, plain_focal, {"gamma": 0.5}),
                (boundary_pixel_loss, plain_boundary, {"weight": 3.3, "width": 2}),
                (boundary_pixel_loss, plain_boundary, {"weight": 0.4, "width": 30}),
                (tversky_loss, plain_tversky, {"alpha": 0.3, "beta": 0.7}),
            )
        ),
        ("lovasz", lovasz_loss, plain_lovasz),
    ]


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("before", "after"), SIZES)
@pytest.mark.parametrize("classes", [2, 5, 150])
def test_losses_and_gradients_are_those_of_the_formulas(
    classes: int, before: tuple[int, int], after: tuple[int, int], align_corners: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cross_entropy, "CPU_STRIP", 4 * classes * after[1])  # strips of four rows
    logits, labels = scores_of(3, classes, before), labels_of(3, classes, after)
    for name, ours, plain in pairs_of_losses(classes):
        actual, expected = ours(logits, labels, align_corners), plain(logits, labels, align_corners)
        torch.testing.assert_close(actual, expected, msg=lambda text, name=name: f"{name}: {text}")
        slopes = [torch.autograd.grad(loss, logits)[0] for loss in (actual, expected)]
        torch.testing.assert_close(*slopes, rtol=1e-7, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")
        assert slopes[0][:-1].any(), name


def test_a_batch_without_labels_costs_nothing():
    labels = torch.full((2, 9, 9), IGNORE_INDEX, dtype=torch.uint8)
    for name, ours, _ in pairs_of_losses(5):
        logits = scores_of(2, 5, (3, 3))
        loss = ours(logits, labels, False)
        loss.backward()
        assert loss.item() == 0, name
        assert logits.grad is not None, name
        assert not logits.grad.any(), name


def test_lovasz_on_a_gpu_is_that_on_a_cpu():
    """On a GPU all classes are ranked, and unlabeled pixels too, because their numbers are not known on the CPU."""
    labels = labels_of(2, 4, (12, 16))  # class 4 is missing, and all labels of the second image
    for label in labels:
        logits = scores_of(1, 5, (12, 16))
        actual = losses._lovasz_of_all_classes(logits[0].softmax(0), label, label != IGNORE_INDEX)
        expected = lovasz_loss(logits, label[None], False)
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=0)
        slopes = [torch.autograd.grad(loss, logits)[0] for loss in (actual, expected)]
        torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-15)
        assert slopes[0].any() == (label != IGNORE_INDEX).any()


def test_scores_of_half_the_bits_are_taken_in_float32():
    logits, labels = scores_of(2, 5, (4, 4)).detach().bfloat16(), labels_of(2, 5, (16, 16))
    for name, ours, plain in pairs_of_losses(5):
        actual = ours(logits, labels, False)
        assert actual.dtype == torch.float32, name
        torch.testing.assert_close(actual.double(), plain(logits.double(), labels, False), rtol=1e-5, atol=1e-5)


def test_dice_and_lovasz_by_hand():
    """Two pixels of two classes; the first is correct with probability 3/4, the second only with 1/4."""
    log3 = torch.tensor(3.0, dtype=torch.float64).log()
    logits = torch.stack([log3, log3, log3 * 0, log3 * 0]).reshape(1, 2, 1, 2)
    labels = torch.tensor([[[0, 1]]], dtype=torch.uint8)
    # Class 0: right 3/4 of claimed 3/2 and true 1; class 1: right 1/4 of claimed 1/2 and true 1.
    dice = 1 - ((2 * 0.75) / 2.5 + (2 * 0.25) / 1.5) / 2
    assert dice_loss(logits, labels, False).item() == pytest.approx(dice)
    # Class 0: error 3/4 costs 1 - 1/2 (one pixel too many), then 1/4 the rest. Class 1: 3/4 costs all at once.
    assert lovasz_loss(logits, labels, False).item() == pytest.approx((0.75 / 2 + 0.25 / 2 + 0.75) / 2)


KINDS: tuple[PixelLoss, ...] = (
    CrossEntropy(), WeightedCrossEntropy(weights(5)), HardPixels(0.4, 0.1), DiceLoss(0.7, 0.5), DiceLoss(2.0, 0.0),
    LovaszLoss(0.7, 0.5), SmoothedCrossEntropy(0.1), FocalLoss(2.0), BoundaryCrossEntropy(3.0, 2),
    TverskyLoss(0.3, 0.7, 0.7, 0.5),
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_a_batch_in_parts_gives_the_same_losses(kind: PixelLoss):
    terms = LossTerms("labeled", False, kind, {"auxiliary": ExtraLoss("pixel", 0.4)})
    main, auxiliary, labels = scores_of(4, 5, (4, 6)), scores_of(4, 5, (2, 3), 1), labels_of(4, 5, (16, 20))
    labels[0, :10] = IGNORE_INDEX  # so that the parts have labeled pixels in different numbers
    pixels = (labels != IGNORE_INDEX).sum()
    full = segmentation_loss(main, {"auxiliary": auxiliary}, labels, terms, pixels, 4)
    assert list(full) == ["main", "auxiliary", "loss"]
    torch.testing.assert_close(full["auxiliary"], 0.4 * pixel_loss(auxiliary, labels, terms, pixels, 4))
    for cuts in ([1, 3], [2, 2]):
        parts = zip(*(tensor.split(cuts) for tensor in (main, auxiliary, labels)), strict=True)
        losses = [segmentation_loss(one, {"auxiliary": two}, label, terms, pixels, 4) for one, two, label in parts]
        for name, value in full.items():
            torch.testing.assert_close(sum(loss[name] for loss in losses), value)


def test_cross_entropy_next_to_dice_and_lovasz_is_over_pixels():
    logits, labels = scores_of(2, 5, (4, 6)), labels_of(2, 5, (16, 20))
    for kind, alone in ((DiceLoss(0.7, 0.5), dice_loss), (LovaszLoss(0.7, 0.5), lovasz_loss)):
        actual = pixel_loss(logits, labels, LossTerms("all", False, kind), torch.tensor(640.0), 2)
        other = summed_cross_entropy(logits, labels, False, IGNORE_INDEX)
        expected = 0.7 * alone(logits, labels, False) / 2 + 0.5 * other / 640
        torch.testing.assert_close(actual, expected)


def test_certain_pixels_have_a_finite_focal_gradient():
    """The probability of the true class rounds to 1 and to 0, and 0 ** (gamma - 1) would be infinite."""
    logits = torch.tensor([[200.0, 0.0], [-200.0, 200.0]]).reshape(1, 2, 1, 2).requires_grad_()
    for gamma in (0.5, 2.0):
        loss = focal_loss(logits, torch.tensor([[[0, 0]]], dtype=torch.uint8), False, gamma)
        (slope,) = torch.autograd.grad(loss, logits)
        assert loss.item() == pytest.approx(200)
        assert slope.flatten().tolist() == pytest.approx([0, -1, 0, 1])


def test_focal_loss_and_smoothing_by_hand():
    """One pixel of two classes whose true class has probability 3/4."""
    log3 = torch.tensor(3.0, dtype=torch.float64).log()
    logits, labels = torch.stack([log3, log3 * 0]).reshape(1, 2, 1, 1), torch.zeros(1, 1, 1, dtype=torch.uint8)
    entropy = torch.tensor(4 / 3, dtype=torch.float64).log().item()
    assert focal_loss(logits, labels, False, 2.0).item() == pytest.approx(entropy / 16)
    wrong = torch.tensor(4.0, dtype=torch.float64).log().item()
    assert smoothed_pixel_loss(logits, labels, False, 0.2).item() == pytest.approx(0.9 * entropy + 0.1 * wrong)
    with pytest.raises(ValueError, match="without smoothing"):
        upsampled_cross_entropy(logits, labels, False, IGNORE_INDEX, focal_gamma=2.0, smoothing=0.1)


def test_losses_at_their_neutral_settings_are_cross_entropy_and_dice():
    logits, labels = scores_of(3, 5, (4, 6)), labels_of(3, 5, (16, 20))
    expected = summed_cross_entropy(logits, labels, False, IGNORE_INDEX)
    for loss in (
        focal_loss(logits, labels, False, 0.0),
        smoothed_pixel_loss(logits, labels, False, 0.0),
        boundary_pixel_loss(logits, labels, False, 1.0, 3),
    ):
        assert torch.equal(loss, expected)
    dice = dice_loss(logits, labels, False)
    torch.testing.assert_close(tversky_loss(logits, labels, False, 0.5, 0.5), dice)


def test_ignored_pixels_make_no_boundary():
    labels = torch.tensor([[[1, 1, 1, 255, 255, 2, 2, 2, 2, 0]]], dtype=torch.uint8)
    near = [[index for index, near in enumerate(near_boundary(labels, width)[0, 0]) if near] for width in (1, 3)]
    assert near == [[8, 9], [2, 5, 6, 7, 8, 9]]
    assert not near_boundary(torch.full((1, 4, 4), IGNORE_INDEX, dtype=torch.uint8), 2).any()


def test_weights_make_up_for_counts():
    counts = [900, 90, 10, 0]
    assert weights_from_counts(counts, 0.0) == (1.0, 1.0, 1.0, 1.0)
    for power in (0.5, 1.0):
        weights = weights_from_counts(counts, power)
        assert sum(w * n for w, n in zip(weights, counts, strict=True)) == pytest.approx(sum(counts))
        assert weights[1] / weights[0] == pytest.approx(10**power)
        assert weights[3] == 1.0
    equal = weights_from_counts(counts, 1.0)
    assert equal[0] * 900 == pytest.approx(equal[2] * 10)


@pytest.mark.parametrize(
    "section",
    [
        'loss={kind="weighted_cross_entropy", weights=[1,2,3,1,2,3,1,2,3], mean_over="all"}',
        'loss={kind="ohem", threshold=0.7, min_kept=0.1}',
        'loss={kind="dice", dice=1.0, cross_entropy=1.0, mean_over="labeled"}',
        'loss={kind="lovasz", lovasz=1.0, cross_entropy=1.0, mean_over="labeled"}',
        'loss={kind="smoothed_cross_entropy", smoothing=0.1, mean_over="labeled"}',
        'loss={kind="focal", gamma=2.0, mean_over="labeled"}',
        'loss={kind="boundary", weight=4.0, width=1, mean_over="labeled"}',
        'loss={kind="tversky", alpha=0.3, beta=0.7, tversky=1.0, cross_entropy=1.0, mean_over="labeled"}',
    ],
)
def test_a_step_in_two_parts_equals_a_step_in_one_for_every_loss(section: str):
    """A step uses the recipe's settings, and its losses follow the formulas."""
    used = tiny_recipe(section, "head.dropout=0.0", "auxiliary.dropout=0.0")
    fabric = Fabric(accelerator="cpu", devices=1)
    images = torch.randn(4, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    labels = labels_of(4, 9, (32, 48))
    network = tiny_model("head.dropout=0.0", "auxiliary.dropout=0.0").eval()  # batch norms would see the parts
    before = copy.deepcopy(network)
    model, optimizer = fabric.setup(network, build.optimizer(used, network))
    model.mark_forward_method("forward_train")
    parts = iter(zip(images.split(2), labels.split(2), strict=True))
    losses = train_step(model, optimizer, parts, used, 0, fabric, parts=2)
    logits, extras = before.forward_train(images)
    loss, pixels = used.loss.model_dump(), int((labels != IGNORE_INDEX).sum())
    for name, share, output in (("main", 1.0, logits), ("auxiliary", 0.4, extras["auxiliary"])):
        match loss["kind"]:
            case "weighted_cross_entropy":
                expected = plain_weighted(output, labels, False, (1, 2, 3) * 3) / labels.numel()
            case "ohem":
                expected = plain_hard(output, labels, False, 0.7, 0.1) / 4
            case "smoothed_cross_entropy":
                expected = plain_smoothed(output, labels, False, 0.1) / pixels
            case "focal":
                expected = plain_focal(output, labels, False, 2.0) / pixels
            case "boundary":
                expected = plain_boundary(output, labels, False, 4.0, 1) / pixels
            case kind:
                tversky = partial(plain_tversky, alpha=0.3, beta=0.7)
                # Lovász-softmax is compared with its formula above.
                plain = {"dice": plain_dice, "tversky": tversky, "lovasz": lovasz_loss}[kind]
                full = full_size(output, labels, False)
                other = F.cross_entropy(full, labels.long(), ignore_index=IGNORE_INDEX, reduction="sum") / pixels
                expected = plain(output, labels, False) / 4 + other
        torch.testing.assert_close(losses[name].float(), share * expected.detach().float(), rtol=1e-4, atol=1e-5)


def test_weights_must_be_as_many_as_classes():
    used = tiny_recipe('loss={kind="weighted_cross_entropy", weights=[1.0, 2.0], mean_over="all"}')
    with pytest.raises(RecipeError, match=r"loss.weights has 2 numbers, but the dataset has 9 classes"):
        build.network(used, 9)
