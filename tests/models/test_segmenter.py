"""The segmenter: output sizes for any image size, segmentation maps without full-size logits, parameters."""

import pytest
import torch
from torch import Tensor, nn

import fastfcn
from fastfcn import build, recipes
from fastfcn.errors import RecipeError
from fastfcn.models import segmenter as module
from fastfcn.models.segmenter import Segmenter
from tests.helpers.tiny import tiny_model, tiny_recipe

SIZES = [(64, 96), (1, 1), (33, 65), (7, 300), (48, 31)]
HEADS = {
    "psp": (),
    "aspp": ('head={kind="aspp", width=8, dilations=[1, 2, 4], kernel=3, dropout=0.1, align_corners=false}',),
    "enc": ('head={kind="enc", width=8, codewords=4, kernel=3, dropout=0.1, align_corners=false, se_loss_weight=0.0}',),
    "fcn": ('head={kind="fcn", width=8, depth=1, kernel=3, dropout=0.1, align_corners=false}',),
    "ocr": (
        'head={kind="ocr", width=8, key_width=4, kernel=3, dropout=0.1, align_corners=false, regions_loss_weight=0.4}',
    ),
    "no neck, no auxiliary": ('neck={kind="none"}', 'auxiliary={kind="none"}'),
    "corners aligned": ("neck.align_corners=true", "head.align_corners=true"),
}

# mmsegmentation 1.2.2's models: all parameters, then backbone, neck, head, auxiliary head.
PARAMETERS = {
    "fastfcn_r50_psp_cityscapes_80k_b8": (68_711_046, 23_527_264, 19_735_552, 23_083_539, 2_364_691),
    "fastfcn_r50_psp_ade20k_80k_b16": (68_811_916, 23_527_264, 19_735_552, 23_150_742, 2_398_358),
    "fastfcn_r50_aspp_cityscapes_80k_b8": (87_848_582, 23_527_264, 19_735_552, 42_221_075, 2_364_691),
    "fastfcn_r50_aspp_ade20k_80k_b16": (87_949_452, 23_527_264, 19_735_552, 42_288_278, 2_398_358),
    "fastfcn_r50_enc_cityscapes_80k_b8": (55_627_513, 23_527_264, 19_735_552, 10_000_006, 2_364_691),
    "fastfcn_r50_enc_ade20k_80k_b16": (55_795_586, 23_527_264, 19_735_552, 10_134_412, 2_398_358),
    "dilated_r50_psp_cityscapes_80k_b8": (48_975_494, 23_527_264, 0, 23_083_539, 2_364_691),
    "dilated_r50_aspp_cityscapes_80k_b8": (68_113_030, 23_527_264, 0, 42_221_075, 2_364_691),
    "dilated_r50_enc_cityscapes_80k_b8": (35_891_961, 23_527_264, 0, 10_000_006, 2_364_691),
}
# Entries of their state dicts, counters of batch norms included.
KEYS = {"psp": 436, "aspp": 442, "enc": 429}


def images_of(size: tuple[int, int], batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=HEADS, scope="module")
def model(request: pytest.FixtureRequest) -> Segmenter:
    return tiny_model(*HEADS[request.param])


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_scores_at_any_size(model: Segmenter, size: tuple[int, int]):
    images = images_of(size)
    logits = model(images)
    assert logits.shape == (2, 9, *size)
    assert logits.isfinite().all()
    small = model.logits(images)
    stride = 8 if hasattr(model.neck, "lateral") else 32
    assert small.shape == (2, 9, -(-size[0] // stride), -(-size[1] // stride))


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_labels_are_the_argmax_of_the_scores(model: Segmenter, size: tuple[int, int]):
    images = images_of(size)
    logits = model(images)
    best = logits.topk(2, dim=1).values
    clear = best[:, 0] - best[:, 1] > 1e-4 * logits.abs().max()
    labels = model.labels(images)
    assert labels.shape == (2, *size)
    assert labels.dtype == torch.uint8
    assert clear.float().mean() > 0.98
    assert torch.equal(labels[clear].long(), logits.argmax(1)[clear])
    if size == (64, 96) and hasattr(model.neck, "lateral"):
        assert len(labels.unique()) > 3  # or the comparison above would be weak


@torch.no_grad()
def test_labels_at_another_size_are_those_of_resized_scores(model: Segmenter):
    images, size = images_of((33, 65)), (50, 41)
    logits = nn.functional.interpolate(model(images), size=size, mode="bilinear", align_corners=model.align_corners)
    best = logits.topk(2, dim=1).values
    clear = best[:, 0] - best[:, 1] > 1e-4 * logits.abs().max()
    labels = model.labels(images, size)
    assert clear.float().mean() > 0.98
    assert torch.equal(labels[clear].long(), logits.argmax(1)[clear])


def test_labels_never_hold_full_size_scores(monkeypatch: pytest.MonkeyPatch):
    """`labels` does not resize logits as `forward` does."""
    model, images = tiny_model(), images_of((64, 96))

    def refuse(*_: object) -> Tensor:
        raise AssertionError("full-size logits")

    monkeypatch.setattr(module, "upsample", refuse)
    assert model.labels(images).shape == (2, 64, 96)
    with pytest.raises(AssertionError, match="full-size"):
        model(images)


@pytest.mark.parametrize("name", HEADS)
def test_forward_train(name: str):
    model = tiny_model(*HEADS[name])
    for size in [(64, 96), (33, 65)]:
        images = images_of(size)
        logits, extras = model.forward_train(images)
        torch.testing.assert_close(logits, model.logits(images))
        expected = {} if name.startswith("no neck") else {"auxiliary": (2, 9, -(-size[0] // 16), -(-size[1] // 16))}
        expected |= {"se": (2, 9)} if name == "enc" else {}
        expected |= {"regions": tuple(logits.shape)} if name == "ocr" else {}
        assert {extra: tuple(output.shape) for extra, output in extras.items()} == expected


@pytest.mark.parametrize("stage", range(4))
def test_the_auxiliary_head_reads_the_stage_asked_for(stage: int):
    model, images = tiny_model(f"auxiliary.stage={stage}"), images_of((64, 96))
    stages = model.backbone(images)
    torch.testing.assert_close(model.forward_train(images).extras["auxiliary"], model.auxiliary(stages[stage]).logits)


@pytest.mark.parametrize("name", HEADS)
def test_every_parameter_has_a_gradient(name: str):
    model = tiny_model(*HEADS[name]).train()
    logits, extras = model.forward_train(images_of((64, 96)))
    sum(output.square().sum() for output in (logits, *extras.values())).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_a_network_is_the_same_from_a_name_a_recipe_and_a_number_of_classes():
    used = tiny_recipe()
    assert fastfcn.create(used).head.classifier.out_channels == 9
    assert fastfcn.create(used, 4).head.classifier.out_channels == 4
    with torch.device("meta"):
        assert fastfcn.create("fastfcn_r18_psp_camvid").head.classifier.out_channels == 11


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_of_openmmlab(name: str):
    with torch.device("meta"):
        model = build.create(name)
    parts = (model, model.backbone, model.neck, model.head, model.auxiliary)
    assert tuple(sum(parameter.numel() for parameter in part.parameters()) for part in parts) == PARAMETERS[name]
    if name.startswith("fastfcn"):
        assert len(model.state_dict()) == KEYS[recipes.load(name).head.kind]


@pytest.mark.parametrize(
    ("change", "named", "hint"),
    [
        ("backbone.name=resnet5o", "resnet5o", "timm"),
        ("backbone.name=test_convnext", "not a ResNet", "backbone.kind=pyramid"),
        ("backbone.name=resnet50d", "stride", "backbone.kind=pyramid"),
        ('backbone={kind="pyramid", name="test_vit", pretrained="none"}', "strides", "network with four stages"),
    ],
)
def test_a_backbone_that_cannot_be_used_is_a_recipe_error(change: str, named: str, hint: str):
    used = recipes.load("dilated_r50_psp_camvid", [change])
    with torch.device("meta"), pytest.raises(RecipeError, match=named) as error:
        build.create(used)
    assert "backbone.name" in error.value.message
    assert hint in error.value.hint
