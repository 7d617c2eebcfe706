"""Fold batch norms into the convolutions before them: the same function in fewer passes over memory."""

import copy
from typing import Any

from timm.layers.norm_act import BatchNormAct2d
from timm.models._efficientnet_blocks import ConvBnAct, DepthwiseSeparableConv, EdgeResidual, InvertedResidual
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.mobilenetv3 import MobileNetV3Features
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fastfcn.models.backbone import SamePaddedConv2d
from fastfcn.models.segmenter import Segmenter

# The convolution before each of timm's batch norms with an activation, in the modules of mobile networks.
WITH_ACTIVATION: dict[type[nn.Module], dict[str, str]] = {
    ConvBnAct: {"bn1": "conv"},
    DepthwiseSeparableConv: {"bn1": "conv_dw", "bn2": "conv_pw"},
    EdgeResidual: {"bn1": "conv_exp", "bn2": "conv_pwl"},
    EfficientNetFeatures: {"bn1": "conv_stem"},
    InvertedResidual: {"bn1": "conv_pw", "bn2": "conv_dw", "bn3": "conv_pwl"},
    MobileNetV3Features: {"bn1": "conv_stem"},
}


def fold_batch_norms(model: Segmenter, in_place: bool = False) -> Segmenter:
    """`model`, or a copy of it unless `in_place`, for inference: equal to `model.eval()` up to rounding."""
    model = (model if in_place else copy.deepcopy(model)).eval()
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            if type(norm) is nn.BatchNorm2d:  # not timm's subclasses, which include the activation
                _fold(parent, name, norm)
            elif type(norm) is BatchNormAct2d:
                _fold_before_activation(parent, name, norm)
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


def _fold_before_activation(parent: nn.Module, name: str, norm: Any) -> None:
    """Fold `parent.name` into its convolution and leave its activation in its place, in the modules that are known."""
    before = WITH_ACTIVATION.get(_timm_class(parent), {}).get(name)
    convolution: Any = None if before is None else getattr(parent, before)
    if before and type(convolution) in (nn.Conv2d, SamePaddedConv2d) and type(norm.drop) is nn.Identity:
        setattr(parent, before, fuse_conv_bn_eval(convolution, norm))
        setattr(parent, name, norm.act)


def _timm_class(module: nn.Module) -> type[nn.Module]:
    """The class of timm that `module` has, or that `models.backbone` derived its class from."""
    return next((base for base in type(module).__mro__ if base in WITH_ACTIVATION), type(module))
