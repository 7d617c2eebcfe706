"""What may be replaced in a backbone that we do not know: it is run on a small image, before and after."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from fastfcn.models.backbone import image_channels
from fastfcn.utils.modules import add_base_class, change_class

PROBE = (64, 96)  # (height, width) of the image
# Errors allowed in a map, relative to its largest value: a mistake is of the order of 1, rounding far below this.
TOLERANCE = 1e-2


class FixedConv2d(nn.Conv2d):
    """A convolution that must stay as it is, because other modules read its attributes or do not call it."""


class _Watched(nn.Module):
    """Mixin for the class of a convolution: notes when it is called, and when its attributes are read otherwise."""

    watch: "_Watch"

    def forward(self, *inputs: Tensor) -> Tensor:
        watch = type(self).watch
        watch.called.add(self)
        watch.inside = True
        try:
            return super().forward(*inputs)
        finally:
            watch.inside = False

    def __getattribute__(self, name: str) -> Any:
        watch = type(self).watch
        if not watch.inside and name != "forward" and not name.startswith("_"):  # what torch reads to call a module
            watch.read.add(self)
        return super().__getattribute__(name)


class _Watch:
    def __init__(self) -> None:
        self.called: set[nn.Module] = set()
        self.read: set[nn.Module] = set()
        self.inside = False


def fix_convolutions(backbone: nn.Module, images: Tensor) -> None:
    """Give convolutions the class `FixedConv2d` whose parents do not call them, or read their parameters as well."""
    watch = _Watch()
    types = {module: type(module) for module in backbone.modules() if isinstance(module, nn.Conv2d)}
    for module in types:
        add_base_class(module, _Watched, watch=watch)
    try:
        backbone(images)
    finally:
        for module, original in types.items():
            change_class(module, original)
    for module in (types.keys() - watch.called) | watch.read:
        if type(module) is nn.Conv2d:  # no other class is replaced
            change_class(module, FixedConv2d)


def probe_images(backbone: nn.Module) -> Tensor:
    """A small random image, always the same, in the precision of the backbone."""
    images = torch.randn(1, image_channels(backbone), *PROBE, generator=torch.Generator().manual_seed(0))
    return images.to(next(backbone.parameters()))


def shallow_copy(backbone: nn.Module) -> nn.Module:
    """A copy of the modules of `backbone` that shares its parameters and buffers."""
    tensors = [*backbone.parameters(), *backbone.buffers()]
    return copy.deepcopy(backbone, {id(tensor): tensor for tensor in tensors})


def is_equivalent(backbone: nn.Module, images: Tensor, expected: list[Tensor]) -> bool:
    """Whether the maps of `backbone` for `images` are those expected, up to rounding; False if it fails."""
    try:
        maps = list(backbone(images))
    except (RuntimeError, AttributeError, TypeError, AssertionError, IndexError):
        return False
    return len(maps) == len(expected) and all(map(_are_close, maps, expected))


def _are_close(actual: Tensor, expected: Tensor) -> bool:
    return actual.shape == expected.shape and bool((actual - expected).abs().max() <= TOLERANCE * expected.abs().max())
