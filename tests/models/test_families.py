"""Small variants of many families train at any size; the command in `families.py` checks real ones, and more."""

from typing import Any

import pytest
import timm
import torch

from fastfcn import build
from fastfcn.errors import RecipeError
from fastfcn.models import backbone
from tests.models import families

# What makes a network of the family small, as options of its constructor.
WINDOWS = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}
SHALLOW = {"depths": (1, 1, 1, 1)}
SMALL: dict[str, dict[str, Any]] = {
    "test_resnet": {},
    "test_byobnet": {},
    "test_nfnet": {},
    "test_efficientnet": {},
    "test_convnext": {},
    "test_convnext2": {},
    "test_mambaout": {},
    "test_maxvit": {},
    "swin_tiny_patch4_window7_224": WINDOWS,
    "swinv2_tiny_window8_256": WINDOWS,
    "swinv2_cr_tiny_ns_224": WINDOWS,
    "pvt_v2_b0": SHALLOW,
    "edgenext_xx_small": {},
    "mixnet_s": {},
    "mobilenetv4_conv_small_035": {},
    "mnasnet_small": {},
    "ghostnet_050": {},
    "tinynet_e": {},
    "lcnet_035": {},
    "regnetx_002": {},
    "efficientvit_b0": {},
    "starnet_s050": {},
    "davit_tiny": {**SHALLOW, "embed_dims": (16, 16, 32, 32), "num_heads": (1, 1, 2, 2)},
    "inception_next_atto": SHALLOW,
    "fasternet_t0": SHALLOW,
}


@pytest.fixture(autouse=True)
def small_networks(monkeypatch: pytest.MonkeyPatch):
    make = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **options: make(name, **SMALL.get(name, {}), **options))
    backbone._traits.cache_clear()
    yield
    backbone._traits.cache_clear()


@pytest.mark.parametrize("name", SMALL)
def test_a_family_trains_at_sizes_that_no_stride_divides(name: str):
    torch.manual_seed(0)
    net = backbone.backbone(name).train()
    maps = net(torch.randn(2, 3, 45, 61))
    assert [tuple(map_.shape[-2:]) for map_ in maps] == [(12, 16), (6, 8), (3, 4), (2, 2)]
    assert [map_.shape[1] for map_ in maps] == net.feature_info.channels()
    torch.stack([map_.square().mean() for map_ in maps]).sum().backward()
    gradients = {key: value.grad for key, value in net.named_parameters()}
    assert [key for key, gradient in gradients.items() if gradient is None or not gradient.isfinite().all()] == []


@pytest.mark.parametrize("name", ["edgenext_xx_small", "lcnet_035"])
def test_its_fast_form_is_equal(name: str):
    assert families.predict(name) == ""


REFUSED = {
    "vit_tiny_patch16_224": r"has maps at strides \[16, 16, 16\]",
    "botnet26t_256": "does not accept images of any size; it was made for 256x256",
    "resnet5o": 'has no network of this name; did you mean "resnet50"',
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_that_cannot_work_is_refused_with_the_reason_and_others(name: str):
    with pytest.raises(RecipeError, match=f"backbone.name = '{name}' cannot be used .*{REFUSED[name]}") as error:
        build.check_backbone(families.recipe(name))
    assert ("timm.list_models" if name == "resnet5o" else "convnext_tiny") in error.value.hint
