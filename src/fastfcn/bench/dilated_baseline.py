"""The dilated baseline of a network with JPU: the same backbone and head at stride 8, with dilation instead of JPU."""

import torch

from fastfcn import build, recipes
from fastfcn.errors import RecipeError
from fastfcn.recipes.recipe import Recipe

DILATED = ("backbone.strides=[1, 2, 1, 1]", "backbone.dilations=[1, 1, 2, 4]", 'neck={kind="none"}')
COMPARED = ("backbone", "neck", "head")


def dilated_baseline(recipe: Recipe) -> Recipe | None:
    """The recipe's dilated baseline: a shipped recipe if one has this network and data, else a changed copy.

    None for a recipe without JPU, and for backbones whose strides cannot be set.
    """
    if recipe.neck.kind == "none" or recipe.backbone.kind != "resnet":
        return None
    baseline = recipe.override([*DILATED, f'name="{recipe.name}_dilated"'])
    try:
        with torch.device("meta"):
            build.backbone(baseline)
    except RecipeError:
        return None
    shipped = (recipes.load(name) for name in recipes.names())
    return next((candidate for candidate in shipped if _same_network(candidate, baseline)), baseline)


def _same_network(first: Recipe, second: Recipe) -> bool:
    same_data = (first.data.dataset, first.data.crop) == (second.data.dataset, second.data.crop)
    return same_data and all(getattr(first, part) == getattr(second, part) for part in COMPARED)
