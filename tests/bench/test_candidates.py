"""The dilated baseline of a recipe: a shipped recipe if there is one, else a changed copy."""

import pytest

from fastfcn import recipes
from fastfcn.bench.candidates import dilated_baseline
from tests.helpers.tiny import tiny_recipe

# fastfcn_BACKBONE_HEAD_DATA..., with the heads of the papers.
WITH_BASELINE = [
    name for name in recipes.names() if name.startswith("fastfcn_") and name.split("_")[2] in ("psp", "aspp", "enc")
]


@pytest.mark.parametrize("name", WITH_BASELINE)
def test_shipped_recipes_have_shipped_baselines(name):
    """The changes of `dilated_baseline` give the shipped dilated recipes, which were written by hand."""
    baseline = dilated_baseline(recipes.load(name))
    assert baseline.name in recipes.names()
    assert baseline.name.startswith("dilated_")
    head, data = name.split("_")[2:4]
    assert baseline.name.split("_")[2:4] == [head, data]


def test_other_baselines_are_changed_copies():
    one = recipes.load("fastfcn_r18_psp_camvid", ["head.width=64", "neck.width=96"])
    baseline = dilated_baseline(one)
    assert baseline.name == "fastfcn_r18_psp_camvid_dilated"
    assert (baseline.neck.kind, baseline.head) == ("none", one.head)
    assert (baseline.backbone.strides, baseline.backbone.dilations) == ((1, 2, 1, 1), (1, 1, 2, 4))
    assert {key.split(".")[0] for key, _, _ in one.differences(baseline)} == {"name", "backbone", "neck"}


def test_no_baseline_without_jpu_or_strides():
    assert dilated_baseline(recipes.load("dilated_r50_psp_camvid")) is None
    assert dilated_baseline(tiny_recipe()) is None
    pooled = 'backbone={kind="resnet", name="resnet18d", pretrained="none", strides=[1, 2, 2, 2], dilations=[1, 1, 1, 1], style="pytorch"}'  # noqa: E501
    assert dilated_baseline(tiny_recipe(pooled)) is None
