"""Semantic segmentation with Joint Pyramid Upsampling (FastFCN, arXiv 1903.11816).

Complete tasks:
    train(recipe, data, out)        train a recipe; returns a TrainingResult
    evaluate(weights, data)         mIoU and the IoU of each class; returns an EvaluationResult
    load(path), from_pretrained(name)   a predictor for images, from a file or from the Hugging Face Hub
    export(weights, format, out)    a verified ONNX, OpenVINO, AOTInductor or ExecuTorch file
    check(folder)                   problems in a folder of images and masks

Parts:
    list_recipes()                  the names of the recipes
    create(recipe)                  the network of a recipe as a torch module
    optimize(network)               its fastest form for inference
    JPU                             the module alone, for your own networks

Each is imported on first use, so `import fastfcn` is fast and does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastfcn.api import check, evaluate, export, train
    from fastfcn.build import create
    from fastfcn.fast.optimize import optimize
    from fastfcn.models.jpu import JPU
    from fastfcn.prediction.load import from_pretrained, load
    from fastfcn.recipes.recipe import names as list_recipes

__version__ = "0.1.0"
__all__ = [
    "JPU",
    "check",
    "create",
    "evaluate",
    "export",
    "from_pretrained",
    "list_recipes",
    "load",
    "optimize",
    "train",
]

_SOURCES = {
    "JPU": ("fastfcn.models.jpu", "JPU"),
    "check": ("fastfcn.api", "check"),
    "create": ("fastfcn.build", "create"),
    "evaluate": ("fastfcn.api", "evaluate"),
    "export": ("fastfcn.api", "export"),
    "from_pretrained": ("fastfcn.prediction.load", "from_pretrained"),
    "list_recipes": ("fastfcn.recipes.recipe", "names"),
    "load": ("fastfcn.prediction.load", "load"),
    "optimize": ("fastfcn.fast.optimize", "optimize"),
    "train": ("fastfcn.api", "train"),
}


def __getattr__(name: str) -> Any:
    if name not in _SOURCES:
        raise AttributeError(f"module 'fastfcn' has no attribute {name!r}")
    module, attribute = _SOURCES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
