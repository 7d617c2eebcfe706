"""Small objects for many tests: a narrow recipe, its network and weights file, and a few street scenes."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from fastfcn import build, recipes, weights
from fastfcn.demo.streets import write_dataset
from fastfcn.models.segmenter import Segmenter
from fastfcn.recipes.recipe import Recipe

SIZE = (64, 96)  # of the drawings: (height, width)

NARROW = (
    "name=tiny",
    "weight_init=openmmlab",
    'backbone={kind="pyramid", name="test_resnet", pretrained="none"}',
    "data.base_size=[64, 96]",
    "data.crop=[64, 96]",
    "neck.width=8",
    "head.width=8",
    "auxiliary.width=8",
    "optim.steps=4",
    "optim.batch=4",
    "eval.every=4",
    "eval.scales=[0.5, 1.0]",
)


def tiny_recipe(*changes: str) -> Recipe:
    """The demo's recipe on a backbone of 370 thousand parameters, 4 steps, with `changes` made after that."""
    return recipes.load("demo", [*NARROW, *changes])


def tiny_model(*changes: str) -> Segmenter:
    """The network of `tiny_recipe`, the same random weights every time.

    Its batch norms are not the identity, and it predicts several classes.
    """
    torch.manual_seed(0)
    model = build.create(tiny_recipe(*changes))
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
        elif isinstance(layer, nn.Conv2d) and layer.in_channels > layer.groups:
            # Maps after a ReLU are positive: filters would mainly respond to the mean, and one class would win.
            layer.weight.data -= layer.weight.data.mean((1, 2, 3), keepdim=True)
    nn.init.normal_(model.head.classifier.weight)
    return model.eval()


def tiny_weights(path: Path, *changes: str) -> Path:
    """A weights file of `tiny_model` at `path`."""
    used = tiny_recipe(*changes)
    weights.save(path, tiny_model(*changes), used, build.description(used), {"miou": 12.5})
    return path


def write_streets(folder: Path, train: int = 6, val: int = 3) -> Path:
    """Street scenes of 64 x 96 pixels in the layout of the dataset `streets`, always the same."""
    return write_dataset(folder, train, val, size=SIZE)


def picture(height: int = 64, width: int = 96, seed: int = 0) -> np.ndarray:
    """Coarse colored blocks, RGB uint8 (height, width, 3)."""
    blocks = np.random.default_rng(seed).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    return np.array(Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC))


def save_picture(path: Path, pixels: np.ndarray | None = None) -> Path:
    """Save `pixels`, or else `picture()`, in the format that the suffix says; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture() if pixels is None else pixels).save(path)
    return path
