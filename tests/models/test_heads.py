"""The heads against their plain form: all upsampled maps concatenated, and the bottleneck over all channels."""

import copy
import inspect
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastfcn.models import heads
from fastfcn.models.heads import ASPPHead, DeepLabV3Head, EncHead, FCNHead, OCRHead, PSPHead
from fastfcn.models.layers import openmmlab_weights
from fastfcn.recipes.recipe import Recipe
from fastfcn.recipes.validation import kind_of, models_in

INPUTS, CLASSES, WIDTH = 6, 5, 4
SIZES = [(9, 14), (1, 1), (5, 3), (13, 8), (2, 30)]


def plain_psp(head: PSPHead, features: Tensor) -> Tensor:
    maps = [features]
    for bins, project in zip(head.pools, head.pooled, strict=True):
        pooled = project(F.adaptive_avg_pool2d(features, bins))
        maps.append(F.interpolate(pooled, size=features.shape[-2:], mode="bilinear", align_corners=head.align_corners))
    return head.classifier(nn.Sequential.forward(head.bottleneck, torch.cat(maps, 1)))


def plain_aspp(head: ASPPHead, features: Tensor) -> Tensor:
    image = head.image_pool(F.adaptive_avg_pool2d(features, 1)).expand(-1, -1, *features.shape[-2:])
    maps = [image] + [branch(features) for branch in head.branches]
    return head.classifier(nn.Sequential.forward(head.bottleneck, torch.cat(maps, 1)))


def plain_deeplabv3(head: DeepLabV3Head, features: Tensor) -> Tensor:
    image = head.image_pool(F.adaptive_avg_pool2d(features, 1)).expand(-1, -1, *features.shape[-2:])
    maps = [image] + [branch(features) for branch in head.branches]
    projected = head.bottleneck.bn(F.conv2d(torch.cat(maps, 1), head.bottleneck.conv.weight)).relu()
    return head.classifier(head.block(projected))


def plain_enc(head: EncHead, features: Tensor) -> Tensor:
    narrow = head.bottleneck(features)
    vectors = head.project(narrow).flatten(2).transpose(1, 2)
    difference = vectors[:, :, None] - head.encoding.codewords
    assignment = (head.encoding.scale * difference.square().sum(3)).softmax(2)
    codes = head.encoding_bn((assignment[..., None] * difference).sum(1)).relu().mean(1)
    gamma = head.gate(codes).sigmoid()[:, :, None, None]
    return head.classifier((narrow + narrow * gamma).relu())


def plain_fcn(head: FCNHead, features: Tensor) -> Tensor:
    for block in head.convs:
        features = F.conv2d(features, block.conv.weight, padding="same")
        features = block.bn(features).relu()
    return head.classifier(features)


def plain_ocr(head: OCRHead, features: Tensor) -> Tensor:
    """The attention pixel by pixel."""
    logits, pixels = head.regions(features).flatten(2), head.bottleneck(features)
    share = logits.exp() / logits.exp().sum(2, keepdim=True)
    regions = torch.einsum("bkn,bcn->bck", share, pixels.flatten(2))[..., None]
    query, key, value = head.query(pixels).flatten(2), head.key(regions).squeeze(3), head.value(regions).squeeze(3)
    context = torch.empty_like(query)
    for index in range(query.shape[2]):
        likeness = torch.stack([(query[:, :, index] * region).sum(1) for region in key.unbind(2)], 1)
        relation = (likeness / key.shape[1] ** 0.5).exp()
        weighted = [relation[:, k, None] * value[:, :, k] for k in range(value.shape[2])]
        context[:, :, index] = sum(weighted) / relation.sum(1, keepdim=True)
    joined = torch.cat([head.project(context.unflatten(2, pixels.shape[2:])), pixels], 1)
    return head.classifier(head.fuse(joined))


HEADS: dict[str, tuple[Callable[[], nn.Module], Callable]] = {
    "psp": (lambda: PSPHead(INPUTS, CLASSES, WIDTH, (1, 2, 3, 6), 3, 0.0, False), plain_psp),
    "psp, 1x1, corners": (lambda: PSPHead(INPUTS, CLASSES, WIDTH, (4, 1), 1, 0.0, True), plain_psp),
    "psp, 150 classes": (lambda: PSPHead(INPUTS, 150, WIDTH, (1, 2, 3, 6), 3, 0.0, False), plain_psp),
    "aspp": (lambda: ASPPHead(INPUTS, CLASSES, WIDTH, (1, 12, 24, 36), 3, 0.0, False), plain_aspp),
    "aspp, 1x1, corners": (lambda: ASPPHead(INPUTS, CLASSES, WIDTH, (1, 2), 1, 0.0, True), plain_aspp),
    "aspp, no 1x1 branch": (lambda: ASPPHead(INPUTS, CLASSES, WIDTH, (3,), 5, 0.0, False), plain_aspp),
    "deeplabv3": (lambda: DeepLabV3Head(INPUTS, CLASSES, WIDTH, (1, 12, 24, 36), 0.0, 3, 0.0, True), plain_deeplabv3),
    "enc": (lambda: EncHead(INPUTS, CLASSES, WIDTH, 7, 3, 0.0), plain_enc),
    "enc, 1x1, one class": (lambda: EncHead(INPUTS, 1, WIDTH, 3, 1, 0.0), plain_enc),
    "ocr": (lambda: OCRHead(INPUTS, CLASSES, WIDTH, 3, 3, 0.0, False), plain_ocr),
    "ocr, 1x1, two classes": (lambda: OCRHead(INPUTS, 2, WIDTH, 4, 1, 0.0, True), plain_ocr),
    "fcn": (lambda: FCNHead(INPUTS, CLASSES, WIDTH, 2, 3, 0.0), plain_fcn),
    "fcn, classifier alone": (lambda: FCNHead(INPUTS, CLASSES, WIDTH, 0, 3, 0.0), plain_fcn),
}


def head_of(name: str) -> nn.Module:
    """A head in float64 whose batch norms are not the identity and whose classes differ."""
    torch.manual_seed(1)
    head = HEADS[name][0]().double()
    for key, value in head.named_parameters():
        if "bn" in key or key.startswith("classifier"):
            nn.init.uniform_(value, 0.5, 1.5)
    for key, value in head.named_buffers():
        if "num_batches" not in key:
            nn.init.uniform_(value, 0.5, 1.5)
    return head


def features_of(size: tuple[int, int], batch: int = 2) -> Tensor:
    torch.manual_seed(2)
    return torch.randn(batch, INPUTS, *size, dtype=torch.float64)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    # The interpolation matrices are made in float32: rounding is relative to the largest value.
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6 * max(1.0, expected.abs().max().item()))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", HEADS)
def test_equals_the_plain_form(name: str, size: tuple[int, int]):
    head, features = head_of(name).eval(), features_of(size)
    logits, extras = head(features)
    assert logits.shape == (2, head.classifier.out_channels, *size)
    assert_close(logits, HEADS[name][1](head, features))
    assert list(extras) == list(head.extra_losses)


@pytest.mark.parametrize("name", HEADS)
def test_training_equals_the_plain_form(name: str):
    """Batch statistics, running statistics, and the gradient of every parameter and of the input."""
    ours = head_of(name).train()
    plain = copy.deepcopy(ours)
    results = []
    for head, forward in ((ours, lambda head, x: head(x)[0]), (plain, HEADS[name][1])):
        features = features_of((9, 14), batch=3).requires_grad_()
        logits = forward(head, features)
        logits.square().sum().backward()
        results.append((logits, features.grad))
    assert_close(results[0][0], results[1][0])
    assert_close(results[0][1], results[1][1])
    compared = 0
    for (key, mine), theirs in zip(ours.named_parameters(), plain.parameters(), strict=True):
        if not key.startswith("se_layer"):  # it has no gradient from the loss above
            assert_close(mine.grad, theirs.grad)
            compared += 1
    assert compared
    for mine, theirs in zip(ours.buffers(), plain.buffers(), strict=True):
        assert_close(mine, theirs)


@pytest.mark.parametrize("name", HEADS)
def test_memory_layout_does_not_matter(name: str):
    head, features = head_of(name).eval(), features_of((9, 14))
    expected = head(features)[0]
    assert_close(head(features.contiguous(memory_format=torch.channels_last))[0], expected)
    assert_close(head(features.transpose(2, 3).contiguous().transpose(2, 3))[0], expected)


def test_each_image_of_a_batch_is_by_itself():
    for name in HEADS:
        head, features = head_of(name).eval(), features_of((7, 6), batch=3)
        together, extras = head(features)
        for index in range(3):
            alone, extras_alone = head(features[index : index + 1])
            assert_close(together[index : index + 1], alone)
            assert extras.keys() == extras_alone.keys()
            for extra, output in extras.items():
                assert_close(output[index : index + 1], extras_alone[extra])


def test_se_logits_are_a_linear_map_of_the_encoded_image():
    head, features = head_of("enc").eval(), features_of((4, 5))
    narrow = head.bottleneck(features)
    codes = head.encoding_bn(head.encoding(head.project(narrow))).relu().mean(1)
    se_logits = head(features).extras["se"]
    assert se_logits.shape == (2, CLASSES)
    assert_close(se_logits, codes @ head.se_layer.weight.T + head.se_layer.bias)


def test_dropout_acts_in_training_alone():
    head = PSPHead(INPUTS, CLASSES, WIDTH, (1, 2), 1, 0.5, False).double()
    features = features_of((5, 6))
    for layer in head.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
    first, second = head(features)[0], head(features)[0]
    assert not torch.equal(first, second)
    assert torch.equal(head.eval()(features)[0], head(features)[0])


def test_the_projection_has_its_own_dropout():
    head = DeepLabV3Head(INPUTS, CLASSES, WIDTH, (1, 2), 0.5, 3, 0.1, True)
    assert (head.project_dropout.p, head.dropout.p) == (0.5, 0.1)
    assert head.bottleneck.conv.kernel_size == (1, 1)
    features, seen = features_of((5, 6)).float(), []
    head.block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    torch.manual_seed(3)
    head(features)
    dropped = (seen[0] == 0).all(3).all(2)
    assert dropped.any()
    assert not dropped.all()
    head.eval()(features)
    assert not (seen[1] == 0).all(3).all(2).any()


def test_with_openmmlabs_weights_classes_start_equally_likely():
    for name in ("psp", "aspp", "enc", "fcn", "ocr"):
        head = HEADS[name][0]().float()
        openmmlab_weights(head)
        share = head(features_of((9, 14)).float())[0].softmax(1)
        assert (share - 1 / CLASSES).abs().max() < 0.05


def test_openmmlabs_weights_are_normal_by_the_number_of_outputs():
    head = FCNHead(64, CLASSES, 32, 2, 3, 0.1)
    before = head.convs[0].conv.weight.std().item()
    openmmlab_weights(head)
    assert before == pytest.approx((1 / (3 * 64 * 9)) ** 0.5, rel=0.1)  # PyTorch: uniform by the number of inputs
    assert head.convs[0].conv.weight.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.1)
    assert head.classifier.weight.std().item() == pytest.approx(0.01, rel=0.3)
    assert not head.classifier.bias.any()


def test_every_head_has_a_weight_for_each_extra_loss_and_its_arguments_as_keys():
    """Assumptions of `build.head` and `build.loss_terms` about recipes."""
    sections = {kind_of(model): model for model in models_in(Recipe.model_fields["head"].annotation)}
    assert sections.keys() == heads.HEADS.keys()
    for kind, head in heads.HEADS.items():
        weights = [f"{name}_loss_weight" for name in head.extra_losses]
        arguments = list(inspect.signature(head).parameters)
        assert arguments[:2] == ["channels", "classes"]
        assert sorted([*arguments[2:], *weights, "kind"]) == sorted(sections[kind].model_fields)


def test_the_regions_of_the_ocr_head_are_means_of_pixels():
    head = head_of("ocr").eval()
    pixels, logits = torch.randn(2, WIDTH, 3, 4).double(), torch.zeros(2, CLASSES, 3, 4).double()
    logits[0, 1, 2, 3] = 100.0
    regions = head.object_regions(logits, pixels)
    assert regions.shape == (2, WIDTH, CLASSES, 1)
    assert_close(regions[0, :, 1, 0], pixels[0, :, 2, 3])
    assert_close(regions[1, :, 0, 0], pixels[1].mean((1, 2)))
