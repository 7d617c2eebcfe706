"""Checkpoints as mmsegmentation writes them, made from networks of ours."""

import re
from pathlib import Path

import torch
from torch import Tensor, nn

# Our names to OpenMMLab's, written out apart from the package's own table, so that the two check each other.
NAMES = (
    (r"^backbone\.conv1\.", "backbone.stem."),
    (r"^backbone\.bn1\.", "backbone.stem.7."),
    (r"^neck\.lateral\.(\d)\.", r"neck.conv_layers.\1.0."),
    (r"^neck\.dilated\.(\d)\.(depthwise|pointwise)\.", r"neck.dilation_layers.\1.0.\2_conv."),
    (r"^head\.classifier\.", "decode_head.conv_seg."),
    (r"^head\.bottleneck\.", "decode_head.bottleneck."),
    (r"^head\.pooled\.(\d)\.", r"decode_head.psp_modules.\1.1."),
    (r"^head\.image_pool\.", "decode_head.image_pool.1."),
    (r"^head\.branches\.(\d)\.", r"decode_head.aspp_modules.\1."),
    (r"^head\.project\.", "decode_head.enc_module.encoding_project."),
    (r"^head\.encoding\.", "decode_head.enc_module.encoding.0."),
    (r"^head\.encoding_bn\.", "decode_head.enc_module.encoding.1."),
    (r"^head\.gate\.", "decode_head.enc_module.fc.0."),
    (r"^head\.presence\.", "decode_head.se_layer."),
    (r"^auxiliary\.classifier\.", "auxiliary_head.conv_seg."),
    (r"^auxiliary\.convs\.", "auxiliary_head.convs."),
)


def openmmlab_name(name: str) -> str:
    """OpenMMLab's name of one of our weights."""
    for pattern, replacement in NAMES:
        renamed, changed = re.subn(pattern, replacement, name)
        if changed:
            return renamed
    return name


def openmmlab_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of `model` under OpenMMLab's names."""
    return {openmmlab_name(name): value for name, value in model.state_dict().items()}


def save_openmmlab_checkpoint(model: nn.Module, path: Path, meta: dict | None = None) -> None:
    """Write `model` as mmsegmentation would, with `meta` beside the weights."""
    torch.save({"meta": meta or {}, "state_dict": openmmlab_state(model)}, path)
