"""Backbones that use their convolutions in unusual ways are optimized as far as that is correct."""

import pytest
import torch
from torch import Tensor, nn

from fastfcn import build
from fastfcn.fast import optimize as module
from fastfcn.fast.optimize import optimize
from fastfcn.fast.probing import FixedConv2d, fix_convolutions
from fastfcn.models.backbone import STRIDES
from tests.helpers.tiny import tiny_model

CHANNELS = (32, 48, 192, 96)  # of the tiny backbone


class Unusual(nn.Module):
    """Four maps from convolutions of which two are not used by a call alone."""

    def __init__(self):
        super().__init__()
        settings = zip(CHANNELS, STRIDES, strict=True)
        self.called = nn.ModuleList(nn.Conv2d(3, channels, 1, stride=stride) for channels, stride in settings)
        self.read, self.computed_with = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=1)
        self.settings = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1))

    def forward(self, images: Tensor) -> list[Tensor]:
        images = self.read(images.to(self.read.weight.dtype))
        images = nn.functional.conv2d(images, self.computed_with.weight, padding=1)
        images = self.settings(images) * self.settings[0].out_channels
        return [conv(images) for conv in self.called]


class Picky(Unusual):
    """Depends on the types of its layers."""

    def forward(self, images: Tensor) -> list[Tensor]:
        if not all(isinstance(conv, nn.Conv2d) for conv in self.called):
            images = torch.zeros_like(images)
        return super().forward(images)


def test_convolutions_that_others_read_or_do_not_call_are_fixed():
    backbone = Unusual()
    fix_convolutions(backbone, torch.randn(1, 3, 64, 96))
    fixed = {name for name, layer in backbone.named_modules() if type(layer) is FixedConv2d}
    assert fixed == {"read", "computed_with", "settings.0"}
    assert {type(layer) for layer in backbone.called} == {nn.Conv2d}


@pytest.mark.parametrize("kind", [Unusual, Picky])
def test_an_unusual_backbone_is_optimized_with_equal_logits(kind: type[nn.Module], capsys: pytest.CaptureFixture):
    model = tiny_model()
    torch.manual_seed(0)
    model.backbone = kind().eval()
    names = list(model.state_dict())
    fast = optimize(model)
    images = torch.randn(1, 3, 45, 83)
    with torch.inference_mode():
        expected, actual = model.logits(images), fast.logits(images)
    assert (actual - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert list(model.state_dict()) == names
    replaced = [layer for layer in fast.backbone.called if not isinstance(layer, nn.Conv2d)]  # type: ignore[union-attr]
    assert len(replaced) == (4 if kind is Unusual else 0)
    assert ("the original" in capsys.readouterr().err) == (kind is Picky)


def test_a_resnet_is_not_probed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "fix_convolutions", lambda _backbone, _images: pytest.fail("probed"))
    optimize(build.create("fastfcn_r18_jpu_m_camvid"))
