"""The dilated twin of a recipe: OpenMMLab's original where there is one, else made."""

import pytest

from fastfcn import recipes
from fastfcn.bench.dilated_baseline import dilated_baseline
from tests.helpers.tiny import tiny_recipe

# Of the papers' heads: fastfcn_BACKBONE_HEAD_DATA...
WITH_TWINS = [
    name for name in recipes.names() if name.startswith("fastfcn_") and name.split("_")[2] in ("psp", "aspp", "enc")
]


@pytest.mark.parametrize("name", WITH_TWINS)
def test_shipped_recipes_have_shipped_twins(name):
    """The rule by which twins are made gives the dilated recipes, which were written by hand."""
    twin = dilated_baseline(recipes.load(name))
    assert twin.name in recipes.names()
    assert twin.name.startswith("dilated_")
    head, data = name.split("_")[2:4]
    assert twin.name.split("_")[2:4] == [head, data]


def test_other_twins_are_made_with_the_same_changes():
    one = recipes.load("fastfcn_r18_psp_camvid", ["head.width=64", "neck.width=96"])
    twin = dilated_baseline(one)
    assert twin.name == "fastfcn_r18_psp_camvid_dilated"
    assert (twin.neck.kind, twin.head) == ("none", one.head)
    assert (twin.backbone.strides, twin.backbone.dilations) == ((1, 2, 1, 1), (1, 1, 2, 4))
    assert {key.split(".")[0] for key, _, _ in one.differences(twin)} == {"name", "backbone", "neck"}


def test_without_jpu_or_strides_there_is_none():
    assert dilated_baseline(recipes.load("dilated_r50_psp_camvid")) is None
    assert dilated_baseline(tiny_recipe()) is None
    pooled = 'backbone={kind="resnet", name="resnet18d", pretrained="none", strides=[1, 2, 2, 2], dilations=[1, 1, 1, 1], style="pytorch"}'  # noqa: E501
    assert dilated_baseline(tiny_recipe(pooled)) is None
