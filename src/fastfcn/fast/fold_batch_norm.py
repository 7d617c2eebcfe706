"""Fold batch norms into the convolutions before them: the same function in fewer passes over memory."""

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fastfcn.models.segmenter import Segmenter


def fold_batch_norms(model: Segmenter, in_place: bool = False) -> Segmenter:
    """`model`, or a copy of it unless `in_place`, for inference: equal to `model.eval()` up to rounding."""
    model = (model if in_place else copy.deepcopy(model)).eval()
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            if type(norm) is nn.BatchNorm2d:  # not timm's subclasses, which include the activation
                _fold(parent, name, norm)
    return model


def _fold(parent: nn.Module, name: str, norm: nn.BatchNorm2d) -> None:
    """Fold `parent.name` into its convolution: `conv` for `bn`, `conv1` for `bn1`, the previous one in a Sequential."""
    names = list(parent._modules)
    earlier = names[: names.index(name)]
    before = "".join(earlier[-1:]) if isinstance(parent, nn.Sequential) else name.replace("bn", "conv")
    if before not in earlier:
        return
    owner = parent
    if isinstance(getattr(parent, before), nn.Sequential):  # a deep stem: its last module is the convolution
        owner = getattr(parent, before)
        before = list(owner._modules)[-1]
    convolution = getattr(owner, before)
    if isinstance(convolution, nn.Conv2d):
        setattr(owner, before, fuse_conv_bn_eval(convolution, norm))
        setattr(parent, name, nn.Identity())
