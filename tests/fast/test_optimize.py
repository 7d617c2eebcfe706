"""The optimized network gives the logits of the plain one, with kernels and without."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from fastfcn import build, kernels, recipes
from fastfcn.fast import optimize as module
from fastfcn.fast.cpu_layers import (
    FastJPU,
    FastMaxPool,
    FastStem,
    OneDNNConvolution,
    PointwiseConvolution,
    WinogradConvolution,
)
from fastfcn.fast.cpu_mobile import FastInvertedResidual
from fastfcn.fast.cpu_resnet import FastStage
from fastfcn.fast.optimize import FastSegmenter, optimize
from tests.helpers import needed

NARROW, WIDE = ["neck.width=16", "head.width=16"], ["neck.width=128", "head.width=128"]
NETWORKS = {
    "psp": ["fastfcn_r50_psp_camvid", *WIDE],
    "psp, integer factors": ["fastfcn_r18_psp_camvid"],
    "aspp": ["fastfcn_r50_aspp_cityscapes_80k_b8", *WIDE],
    "enc": ["fastfcn_r50_enc_cityscapes_80k_b8", *NARROW],
    "official enc": ["official_r50_enc_ade20k", *NARROW],
    "official enc, a head of no use to the kernels": ["official_r50_enc_ade20k", "neck.width=16", "head.width=7"],
    "official deeplab": ["official_r50_deeplabv3_pcontext", *NARROW],
    "dilated": ["dilated_r50_psp_cityscapes_80k_b8", "head.width=16"],
    "EfficientNet-Lite": ["fastfcn_lite0_jpu_s_camvid"],
    "MobileNetV2": [
        "fastfcn_lite0_jpu_s_camvid",
        'backbone={kind="pyramid", name="mobilenetv2_035", pretrained="none"}',
        "neck.width=16",
    ],
    "MobileNetV3": [
        "fastfcn_lite0_jpu_s_camvid",
        'backbone={kind="pyramid", name="tf_mobilenetv3_small_minimal_100", pretrained="none"}',
        "neck.width=16",
    ],
    "widths of no use to the kernels": ["fastfcn_r18_psp_camvid", "neck.width=10", "head.width=7"],
}
SIZES = [(65, 97), (64, 128)]


def network(name: str, classes: int = 5):
    recipe_name, *changes = NETWORKS[name]
    torch.manual_seed(0)
    model = build.network(recipes.load(recipe_name, changes), classes).eval()
    for norm in (layer for layer in model.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.1)
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 1.5)
    return model


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_fast_network_equals_the_plain_one(name: str, compiled: bool, monkeypatch: pytest.MonkeyPatch):
    if compiled and not kernels.available():
        pytest.skip("the kernels could not be built here")
    monkeypatch.setattr(module.kernels, "available", lambda: compiled)
    model = network(name)
    names = set(model.state_dict())
    fast = optimize(model)
    assert set(model.state_dict()) == names, "the original must stay as it was"
    assert isinstance(fast, FastSegmenter) == compiled
    for size in SIZES:
        images = torch.randn(2, 3, *size)
        with torch.inference_mode():
            plain, actual = model.logits(images), fast.logits(images)
            labels, fast_labels = model.labels(images), fast.labels(images)
            resized, fast_resized = model.labels(images, (70, 50)), fast.labels(images, (70, 50))
        assert plain.std() > 0
        torch.testing.assert_close(actual / plain.std(), plain / plain.std(), atol=1e-3, rtol=0)
        assert (labels == fast_labels).float().mean() > 0.995
        assert (resized == fast_resized).float().mean() > 0.995


@needed.KERNELS
def test_types_of_the_optimized_modules():
    fast = optimize(network("aspp"))
    kinds = [type(layer) for layer in fast.modules()]
    assert type(fast.neck) is FastJPU
    stages = [layer for layer in fast.modules() if isinstance(layer, FastStage)]
    assert [len(stage.dilations) for stage in stages] == [3, 4, 6, 3]  # all residual blocks
    assert kinds.count(WinogradConvolution) > 5
    assert kinds.count(PointwiseConvolution) > 2
    assert kinds.count(FastStem) == 1  # the one that reads the image
    assert OneDNNConvolution not in kinds
    assert not {nn.BatchNorm2d, nn.ReLU} & {type(layer) for layer in fast.backbone.modules()}
    assert fast.auxiliary is None


@needed.KERNELS
def test_blocks_of_a_mobile_network_are_one_operator_each():
    fast = optimize(network("EfficientNet-Lite"))
    blocks = [block for stage in fast.backbone.blocks for block in stage]
    assert {type(block) for block in blocks} == {FastInvertedResidual}
    assert [(block.kernel, block.stride) for block in blocks[:4]] == [(3, 1), (3, 2), (3, 1), (5, 2)]
    assert [block.same for block in blocks[:4]] == [False, True, False, True]
    assert (type(fast.backbone.conv_stem), fast.backbone.conv_stem.limit) == (FastStem, 6.0)
    assert not [module for module in fast.backbone.modules() if isinstance(module, nn.BatchNorm2d | nn.ReLU6)]


@needed.KERNELS
@pytest.mark.parametrize(("name", "single"), [("psp", True), ("psp, integer factors", True), ("aspp", False)])
def test_the_last_convolution_of_a_stem_is_fused_with_pooling(name: str, single: bool):
    """`single`: the stem has only one convolution."""
    fast = optimize(network(name))
    assert not any(type(layer) is FastMaxPool for layer in fast.modules())
    assert [layer.pool for layer in fast.modules() if type(layer) is FastStem] == [single]
    assert sum(type(layer) is WinogradConvolution and layer.pooled for layer in fast.modules()) == (not single)


@needed.KERNELS
@pytest.mark.parametrize(("name", "taken"), [("official enc", True), ("enc", False), ("psp", False)])
def test_jpu_takes_the_convolution_behind_it(name: str, taken: bool):
    fast = optimize(network(name))
    assert (fast.neck.following is not None) == taken
    assert (type(getattr(fast.head, "bottleneck", None)) is nn.Identity) == taken


def test_in_place_uses_the_network_up():
    model = network("psp, integer factors")
    assert optimize(model, in_place=True) is model


CODE = "from fastfcn import kernels; print(kernels.available())"


@pytest.mark.parametrize(
    ("setting", "warning"),
    [
        ({"FASTFCN_KERNELS": "off"}, ""),
        ({"FASTFCN_KERNELS": "build", "CXX": "no-such-compiler"}, "no C++ compiler 'no-such-compiler' found"),
    ],
)
def test_without_kernels(setting: dict[str, str], warning: str):
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env={**os.environ, **setting}
    )
    assert done.stdout.strip() == "False"
    assert warning in done.stderr
    assert len(done.stderr.splitlines()) == (1 if warning else 0)


@needed.KERNELS
def test_a_build_that_fails_says_why_and_goes_on(tmp_path):
    """A compiler that exists but fails; the next start tries again."""
    broken = tmp_path / "broken-compiler"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    setting = {"FASTFCN_KERNELS": "build", "CXX": str(broken), "TORCH_EXTENSIONS_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env={**os.environ, **setting}
    )
    assert done.stdout.strip() == "False"
    assert "fast kernels are unavailable" in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "cache").rglob("*.so"))
