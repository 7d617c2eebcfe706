"""Renames and reorders the weights of the official FastFCN code (wuhuikai/FastFCN).

Shapes are the same. Channels are reordered in two places: the official JPU concatenates from the coarsest map to the
finest, ours from the finest; the official DeepLabV3 head concatenates image pooling last, ours first.
"""

import re

import torch
from torch import Tensor

Renames = tuple[tuple[str, str, int], ...]  # pattern at the start, our name, offset subtracted from the numbers in it

CLASSIFIER = "pretrained.fc."  # ImageNet classifier of the official backbone, unused in segmentation

SHARED: Renames = (
    (r"pretrained\.", "backbone.", 0),
    (r"jpu\.conv([345])\.0\.", "neck.lateral.{}.conv.", 3),
    (r"jpu\.conv([345])\.1\.", "neck.lateral.{}.bn.", 3),
    (r"jpu\.dilation(\d)\.0\.conv1\.", "neck.dilated.{}.depthwise.conv.", 1),
    (r"jpu\.dilation(\d)\.0\.bn\.", "neck.dilated.{}.depthwise.bn.", 1),
    (r"jpu\.dilation(\d)\.0\.pointwise\.", "neck.dilated.{}.pointwise.conv.", 1),
    (r"jpu\.dilation(\d)\.1\.", "neck.dilated.{}.pointwise.bn.", 1),
    (r"jpu\.jum_(\d)\.conv_l\.0\.", "neck.steps.{}.coarse.conv.", 1),
    (r"jpu\.jum_(\d)\.conv_l\.1\.", "neck.steps.{}.coarse.bn.", 1),
    (r"jpu\.jum_(\d)\.conv_h\.0\.", "neck.steps.{}.fine.conv.", 1),
    (r"jpu\.jum_(\d)\.conv_h\.1\.", "neck.steps.{}.fine.bn.", 1),
    (r"jpu\.jum_(\d)\.dilation(\d)\.0\.conv1\.", "neck.steps.{}.dilated.{}.depthwise.", 1),
    (r"jpu\.jum_(\d)\.dilation(\d)\.0\.bn\.", "neck.steps.{}.dilated.{}.depthwise_norm.", 1),
    (r"jpu\.jum_(\d)\.dilation(\d)\.0\.pointwise\.", "neck.steps.{}.dilated.{}.pointwise.", 1),
    (r"jpu\.jum_(\d)\.dilation(\d)\.1\.", "neck.steps.{}.dilated.{}.pointwise_norm.", 1),
    (r"auxlayer\.conv5\.0\.", "auxiliary.convs.0.conv.", 0),
    (r"auxlayer\.conv5\.1\.", "auxiliary.convs.0.bn.", 0),
    (r"auxlayer\.conv5\.4\.", "auxiliary.classifier.", 0),
)
# Names of weights mean different things in different heads; each key here occurs in one head only.
HEADS: dict[str, Renames] = {
    "head.encmodule.": (
        (r"head\.conv5\.0\.", "head.bottleneck.conv.", 0),
        (r"head\.conv5\.1\.", "head.bottleneck.bn.", 0),
        (r"head\.encmodule\.encoding\.0\.", "head.project.conv.", 0),
        (r"head\.encmodule\.encoding\.1\.", "head.project.bn.", 0),
        (r"head\.encmodule\.encoding\.3\.", "head.encoding.", 0),
        (r"head\.encmodule\.encoding\.4\.", "head.encoding_bn.", 0),
        (r"head\.encmodule\.fc\.0\.", "head.gate.", 0),
        (r"head\.encmodule\.selayer\.", "head.se_layer.", 0),
        (r"head\.conv6\.1\.", "head.classifier.", 0),
    ),
    "head.aspp.": (
        (r"head\.aspp\.b([0-3])\.0\.", "head.branches.{}.conv.", 0),
        (r"head\.aspp\.b([0-3])\.1\.", "head.branches.{}.bn.", 0),
        (r"head\.aspp\.b4\.gap\.1\.", "head.image_pool.conv.", 0),
        (r"head\.aspp\.b4\.gap\.2\.", "head.image_pool.bn.", 0),
        (r"head\.aspp\.project\.0\.", "head.bottleneck.conv.", 0),
        (r"head\.aspp\.project\.1\.", "head.bottleneck.bn.", 0),
        (r"head\.block\.0\.", "head.block.conv.", 0),
        (r"head\.block\.1\.", "head.block.bn.", 0),
        (r"head\.block\.4\.", "head.classifier.", 0),
    ),
    "head.conv5.0.conv1.": (
        (r"head\.conv5\.0\.conv(\d)\.0\.", "head.pooled.{}.conv.", 1),
        (r"head\.conv5\.0\.conv(\d)\.1\.", "head.pooled.{}.bn.", 1),
        (r"head\.conv5\.1\.", "head.bottleneck.conv.", 0),
        (r"head\.conv5\.2\.", "head.bottleneck.bn.", 0),
        (r"head\.conv5\.5\.", "head.classifier.", 0),
    ),
    "head.conv5.0.weight": (
        (r"head\.conv5\.0\.", "head.convs.0.conv.", 0),
        (r"head\.conv5\.1\.", "head.convs.0.bn.", 0),
        (r"head\.conv5\.4\.", "head.classifier.", 0),
    ),
}


def is_official(names: list[str]) -> bool:
    """Whether these are names of weights of the official FastFCN code."""
    return any(name.startswith("pretrained.") for name in names)


def from_official(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert a state dict of the official code (EncNet, PSP, DeepLabV3, FCN; JPU, JPU_X or none).

    Drops the ImageNet classifier. Batch counters of batch norms, which early files lack, are set to 0.
    """
    renames = _renames(list(tensors))
    renamed = {_renamed(name, renames): value for name, value in tensors.items() if not name.startswith(CLASSIFIER)}
    counters = {name.replace("running_var", "num_batches_tracked") for name in renamed if name.endswith("running_var")}
    renamed |= {name: torch.tensor(0) for name in sorted(counters - renamed.keys())}
    return {name: _reordered(name, value, renamed) for name, value in renamed.items()}


def _renames(names: list[str]) -> Renames:
    heads = (head for prefix, head in HEADS.items() if any(name.startswith(prefix) for name in names))
    return SHARED + next(heads, ())


def _renamed(name: str, renames: Renames) -> str:
    """The name in fastfcn; an unknown one is returned unchanged and later reported as unexpected."""
    for pattern, new_name, offset in renames:
        if match := re.match(pattern, name):
            return new_name.format(*(int(number) - offset for number in match.groups())) + name[match.end() :]
    return name


def _reordered(name: str, value: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """Reorder the channels of the JPU's three concatenated maps and of the input of the ASPP projection."""
    if re.match(r"neck\.dilated\.\d\.depthwise\.", name) and value.ndim:
        return torch.cat(value.chunk(3, dim=0)[::-1], dim=0)
    if re.match(r"neck\.dilated\.\d\.pointwise\.conv\.", name):
        return torch.cat(value.chunk(3, dim=1)[::-1], dim=1)
    if name == "head.bottleneck.conv.weight" and "head.image_pool.conv.weight" in tensors:
        return value.roll(len(tensors["head.image_pool.conv.weight"]), dims=1)
    return value
