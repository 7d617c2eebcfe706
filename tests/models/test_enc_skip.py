"""The Enc head with a skip connection to the first stage: its logits, its losses, and its fast form."""

import pytest
import torch
import torch.nn.functional as F

from fastfcn import build
from fastfcn.errors import RecipeError
from fastfcn.fast.fold_batch_norm import fold_batch_norms
from fastfcn.fast.optimize import optimize
from fastfcn.losses import segmentation_loss
from tests.helpers.tiny import tiny_model, tiny_recipe

SKIP = (
    'head={kind="enc_skip", width=8, codewords=4, kernel=1, dropout=0.0, align_corners=false, skip_width=16, '
    "se_loss_weight=0.2, coarse_loss_weight=0.4}",
)


@pytest.mark.parametrize("size", [(64, 96), (45, 83), (1, 1)])
def test_details_of_the_first_stage_are_added_to_the_logits_of_the_enc_head(size: tuple[int, int]):
    model, images = tiny_model(*SKIP), torch.randn(2, 3, *size)
    head = model.head
    with torch.no_grad():
        stages = model.backbone(images)
        coarse = head.enc(model.neck(stages[1:])).logits
        details = stages[0]
        for layer in head.skip:
            details = layer.bn(F.conv2d(details, layer.conv.weight, padding=1)).relu()
        details = F.conv2d(details, head.classifier.weight, head.classifier.bias)
        expected = details + F.interpolate(coarse, details.shape[-2:], mode="bilinear", align_corners=False)
        logits, extras = model.forward_train(images)
    assert logits.shape[-2:] == stages[0].shape[-2:]
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(extras["coarse"], coarse)
    assert list(extras) == ["auxiliary", "se", "coarse"]


def test_all_weights_learn_from_the_losses():
    recipe, model = tiny_recipe(*SKIP), tiny_model(*SKIP).train()
    terms = build.loss_terms(recipe)
    assert terms.extras["coarse"].weight == 0.4
    labels = torch.zeros(2, 64, 96, dtype=torch.uint8)
    losses = segmentation_loss(
        *model.forward_train(torch.randn(2, 3, 64, 96)), labels, terms, torch.tensor(float(labels.numel())), 2
    )
    losses["loss"].backward()
    assert [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_the_number_of_classes_is_in_rows_alone():
    """So that fine-tuning with other classes keeps rows."""
    with torch.device("meta"):
        one, other = (build.network(tiny_recipe(*SKIP), classes).state_dict() for classes in (4, 5))
    shapes = {name: (value.shape, other[name].shape) for name, value in one.items()}
    changed = {name: pair for name, pair in shapes.items() if pair[0] != pair[1]}
    assert {(before[0], after[0], before[1:] == after[1:]) for before, after in changed.values()} == {(4, 5, True)}
    assert {"head.classifier.weight", "head.enc.classifier.weight"} <= changed.keys()


def test_without_a_neck_the_enc_head_reads_the_last_stage():
    model = tiny_model(*SKIP, 'neck={kind="none"}')
    assert model.logits(torch.randn(1, 3, 64, 96)).shape[-2:] == (16, 24)


@pytest.mark.parametrize("width", [8, 32])
def test_the_fast_form_computes_the_same(width: int):
    model = tiny_model(*SKIP, f"neck.width={width}", f"head.width={width}")
    images = torch.randn(2, 3, 61, 97)
    with torch.inference_mode():
        expected = model.logits(images)
        for fast in (optimize(model), fold_batch_norms(model)):
            torch.testing.assert_close(fast.logits(images), expected, rtol=1e-3, atol=1e-3 * float(expected.std()))


def test_a_recipe_needs_the_weight_of_every_loss():
    with pytest.raises(RecipeError, match="coarse_loss_weight"):
        tiny_recipe(SKIP[0].replace(", coarse_loss_weight=0.4", ""))
