"""The dilated twin of a network with JPU: what FastFCN does without."""

import torch

from fastfcn import build, recipes
from fastfcn.errors import RecipeError
from fastfcn.recipes.recipe import Recipe

DILATED = ("backbone.strides=[1, 2, 1, 1]", "backbone.dilations=[1, 1, 2, 4]", 'neck={kind="none"}')
COMPARED = ("backbone", "neck", "head")


def dilated_baseline(one: Recipe) -> Recipe | None:
    """The recipe of the same backbone and head without JPU, whose backbone stays at stride 8 by dilation instead.

    A shipped recipe where one says just that, as those of OpenMMLab's originals do. None for a recipe without JPU and
    for backbones whose strides cannot be set.
    """
    if one.neck.kind == "none" or one.backbone.kind != "resnet":
        return None
    baseline = one.override([*DILATED, f'name="{one.name}_dilated"'])
    try:
        with torch.device("meta"):
            build.backbone(baseline)
    except RecipeError:
        return None
    shipped = (recipes.load(name) for name in recipes.names())
    return next((recipe for recipe in shipped if _same_network(recipe, baseline)), baseline)


def _same_network(one: Recipe, other: Recipe) -> bool:
    same_data = (one.data.dataset, one.data.crop) == (other.data.dataset, other.data.crop)
    return same_data and all(getattr(one, part) == getattr(other, part) for part in COMPARED)
