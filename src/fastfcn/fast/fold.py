"""Batch norm folded into the convolution before it: the same function in fewer passes over memory."""

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fastfcn.models.segmenter import Segmenter


def folded(model: Segmenter, in_place: bool = False) -> Segmenter:
    """`model`, or a copy of it, for inference; equal to `model.eval()` to rounding."""
    model = (model if in_place else copy.deepcopy(model)).eval()
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            if type(norm) is nn.BatchNorm2d:  # timm has kinds that hold the activation as well; they stay
                _fold(parent, name, norm)
    return model


def _fold(parent: nn.Module, name: str, norm: nn.BatchNorm2d) -> None:
    """Fold `parent.name` into its convolution: `conv` for `bn`, `conv1` for `bn1`, or the one before in a row."""
    names = list(parent._modules)
    earlier = names[: names.index(name)]
    before = "".join(earlier[-1:]) if isinstance(parent, nn.Sequential) else name.replace("bn", "conv")
    if before not in earlier:
        return
    holder = parent
    if isinstance(getattr(parent, before), nn.Sequential):  # a deep stem ends in the convolution
        holder = getattr(parent, before)
        before = list(holder._modules)[-1]
    convolution = getattr(holder, before)
    if isinstance(convolution, nn.Conv2d):
        setattr(holder, before, fuse_conv_bn_eval(convolution, norm))
        setattr(parent, name, nn.Identity())
