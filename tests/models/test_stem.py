"""The stem in strips against the whole stem."""

import pytest
import torch
from torch import nn

from fastfcn.models import stem as module
from fastfcn.models.backbone import resnet_backbone
from fastfcn.models.stem import StripedStem, stripe_stem


def backbone(name: str) -> nn.Module:
    """With the batch norm of its stem gone; those between the convolutions of a deep stem do something."""
    torch.manual_seed(0)
    net = resnet_backbone(name).eval()
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.bias)
    net.bn1 = nn.Identity()
    return net


@pytest.mark.parametrize("name", ["resnet18", "resnet18d", "resnet50s"])
@pytest.mark.parametrize("size", [(64, 96), (61, 35), (9, 40), (130, 7), (1, 64)])
@pytest.mark.parametrize("rows", [4, 12, 40])
def test_strips_give_what_the_whole_gives(name: str, size: tuple[int, int], rows: int, monkeypatch: pytest.MonkeyPatch):
    net, images = backbone(name), torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = net(images)
        stripe_stem(net)
        assert isinstance(net.conv1, StripedStem)
        monkeypatch.setattr(module, "PIXELS", 2 * rows * size[1])
        for one, other in zip(net(images), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_no_map_at_half_the_size_is_whole(monkeypatch: pytest.MonkeyPatch):
    net, heights = backbone("resnet18"), []
    stripe_stem(net)
    monkeypatch.setattr(module, "PIXELS", 32 * 64)
    net.conv1.layers[0].register_forward_hook(lambda _, given, result: heights.append(result.shape[2]))
    net(torch.randn(1, 3, 256, 64))
    assert len(heights) == 8
    assert max(heights) == 24


@pytest.mark.parametrize("change", ["norm", "activation", "pool", "none"])
def test_other_stems_stay_as_they_are(change: str):
    net = backbone("resnet18")
    match change:
        case "norm":
            net.bn1 = nn.BatchNorm2d(64)
        case "activation":
            net.act1 = nn.SiLU()
        case "pool":
            net.maxpool = nn.MaxPool2d(2, 2)
        case "none":
            net = nn.Sequential()
    before = list(net.children())
    stripe_stem(net)
    assert list(net.children()) == before
