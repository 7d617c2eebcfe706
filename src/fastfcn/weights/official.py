"""Names and order of the weights of FastFCN's own code (wuhuikai/FastFCN), and ours.

The shapes are the same. In two places the channels come in another order: its JPU begins with the coarsest map, ours
with the finest; its DeepLabV3 head ends with the image pooling, ours begins with it.
"""

import re

import torch
from torch import Tensor

Renames = tuple[tuple[str, str, int], ...]  # pattern at the start, ours, what is taken from the numbers in between

CLASSIFIER = "pretrained.fc."  # of ImageNet's 1000 classes: a part of the backbone there that nothing uses

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
# The same name means different things in different heads. The first name is in no other head.
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
    """Whether these are names of FastFCN's own code."""
    return any(name.startswith("pretrained.") for name in names)


def from_official(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of FastFCN's own code (EncNet, PSP, DeepLabV3, FCN; JPU, JPU_X or none) in our names and order.

    ImageNet's classifier is left out. Counters of batch norms, which early files lack, are 0 there.
    """
    renames = _renames(list(tensors))
    found = {_renamed(name, renames): value for name, value in tensors.items() if not name.startswith(CLASSIFIER)}
    counters = {name.replace("running_var", "num_batches_tracked") for name in found if name.endswith("running_var")}
    found |= {name: torch.tensor(0) for name in sorted(counters - found.keys())}
    return {name: _reordered(name, value, found) for name, value in found.items()}


def _renames(names: list[str]) -> Renames:
    heads = (head for mark, head in HEADS.items() if any(name.startswith(mark) for name in names))
    return SHARED + next(heads, ())


def _renamed(name: str, renames: Renames) -> str:
    """Our name; an unknown one comes back unchanged, to be listed as extra."""
    for pattern, ours, less in renames:
        if match := re.match(pattern, name):
            return ours.format(*(int(number) - less for number in match.groups())) + name[match.end() :]
    return name


def _reordered(name: str, value: Tensor, found: dict[str, Tensor]) -> Tensor:
    """Channels in our order: of what the JPU joined from three maps, and of what ASPP's projection reads."""
    if re.match(r"neck\.dilated\.\d\.depthwise\.", name) and value.ndim:
        return torch.cat(value.chunk(3, dim=0)[::-1], dim=0)
    if re.match(r"neck\.dilated\.\d\.pointwise\.conv\.", name):
        return torch.cat(value.chunk(3, dim=1)[::-1], dim=1)
    if name == "head.bottleneck.conv.weight" and "head.image_pool.conv.weight" in found:
        return value.roll(len(found["head.image_pool.conv.weight"]), dims=1)
    return value
