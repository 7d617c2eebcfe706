"""Folding batch norm changes nothing but rounding."""

import pytest
import torch
from torch import nn

from fastfcn import build, recipes
from fastfcn.fast.fold_batch_norm import fold_batch_norms

NARROW = ["neck.width=16", "head.width=16"]
NETWORKS = {
    "psp, plain stem": ["fastfcn_r50_psp_camvid", *NARROW],
    "aspp, deep stem": ["fastfcn_r50_aspp_cityscapes_80k_b8", *NARROW],
    "enc, deep stem": ["fastfcn_r50_enc_cityscapes_80k_b8", *NARROW],
    "basic blocks, dilated": ["dilated_r18_psp_camvid", "head.width=16"],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_folded_network_equals_the_plain_one(name):
    recipe_name, *changes = NETWORKS[name]
    torch.manual_seed(0)
    model = build.network(recipes.load(recipe_name, changes), 5).eval()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.1)
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 1.5)
    images = torch.randn(1, 3, 65, 97)
    with torch.inference_mode():
        plain, fast = model(images), fold_batch_norms(model)(images)
    assert plain.std() > 0
    torch.testing.assert_close(fast / plain.std(), plain / plain.std(), atol=1e-3, rtol=0)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fold_batch_norms(model).modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules()), "the original must stay as it was"
