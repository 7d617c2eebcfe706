"""Renames the weights of mmsegmentation checkpoints (OpenMMLab); shapes are the same."""

import re

from torch import Tensor

# (pattern, replacement): the first match applies. mmsegmentation 0.x and 1.x use the same names.
RENAMES = (
    (r"^backbone\.stem\.([0-6])\.", r"backbone.conv1.\1."),
    (r"^backbone\.stem\.7\.", r"backbone.bn1."),
    (r"^neck\.conv_layers\.(\d)\.0\.", r"neck.lateral.\1."),
    (r"^neck\.dilation_layers\.(\d)\.0\.depthwise_conv\.", r"neck.dilated.\1.depthwise."),
    (r"^neck\.dilation_layers\.(\d)\.0\.pointwise_conv\.", r"neck.dilated.\1.pointwise."),
    (r"^decode_head\.conv_seg\.", r"head.classifier."),
    (r"^decode_head\.bottleneck\.", r"head.bottleneck."),
    (r"^decode_head\.psp_modules\.(\d)\.1\.", r"head.pooled.\1."),
    (r"^decode_head\.image_pool\.1\.", r"head.image_pool."),
    (r"^decode_head\.aspp_modules\.(\d)\.", r"head.branches.\1."),
    (r"^decode_head\.enc_module\.encoding_project\.", r"head.project."),
    (r"^decode_head\.enc_module\.encoding\.0\.", r"head.encoding."),
    (r"^decode_head\.enc_module\.encoding\.1\.", r"head.encoding_bn."),
    (r"^decode_head\.enc_module\.fc\.0\.", r"head.gate."),
    (r"^decode_head\.se_layer\.", r"head.se_layer."),
    (r"^auxiliary_head\.conv_seg\.", r"auxiliary.classifier."),
    (r"^auxiliary_head\.convs\.(\d)\.", r"auxiliary.convs.\1."),
)


def rename(name: str) -> str:
    """fastfcn's name for OpenMMLab's `name`; unknown names are returned unchanged and later reported as unexpected."""
    for pattern, replacement in RENAMES:
        renamed, changed = re.subn(pattern, replacement, name)
        if changed:
            return renamed
    return name


def from_openmmlab(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the state dict of an OpenMMLab FastFCN, PSPNet, DeepLabV3 or EncNet."""
    return {rename(name): value for name, value in tensors.items()}
