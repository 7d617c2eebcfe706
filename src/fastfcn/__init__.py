"""Semantic segmentation with Joint Pyramid Upsampling (FastFCN, arXiv 1903.11816).

`load(path)` gives a predictor, `from_pretrained("USER/NAME")` one of the Hugging Face Hub, `create(recipe)` a network,
`optimize(network)` its fastest form for predictions, `list_recipes()` the names of the recipes, and `JPU` is the module
alone. Each is imported when it is first asked for, so that `import fastfcn` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastfcn.build import create
    from fastfcn.fast.optimize import optimize
    from fastfcn.models.jpu import JPU
    from fastfcn.prediction.load import from_pretrained, load
    from fastfcn.recipes.recipe import names as list_recipes

__version__ = "0.1.0"
__all__ = ["JPU", "create", "from_pretrained", "list_recipes", "load", "optimize"]

_HOMES = {
    "JPU": ("fastfcn.models.jpu", "JPU"),
    "create": ("fastfcn.build", "create"),
    "from_pretrained": ("fastfcn.prediction.load", "from_pretrained"),
    "list_recipes": ("fastfcn.recipes.recipe", "names"),
    "load": ("fastfcn.prediction.load", "load"),
    "optimize": ("fastfcn.fast.optimize", "optimize"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fastfcn' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
