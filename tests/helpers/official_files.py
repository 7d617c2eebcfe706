"""Small checkpoints in the format of the official FastFCN code, made from our networks."""

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

# (ours, theirs), the first that matches; numbers that theirs count from one are written by the functions.
THEIRS = (
    (r"backbone\.", "pretrained."),
    (r"neck\.lateral\.(\d)\.(conv|bn)\.", lambda m: f"jpu.conv{int(m[1]) + 3}.{_place(m[2])}."),
    (
        r"neck\.dilated\.(\d)\.depthwise\.(conv|bn)\.",
        lambda m: f"jpu.dilation{int(m[1]) + 1}.0.{m[2].replace('conv', 'conv1')}.",
    ),
    (r"neck\.dilated\.(\d)\.pointwise\.conv\.", lambda m: f"jpu.dilation{int(m[1]) + 1}.0.pointwise."),
    (r"neck\.dilated\.(\d)\.pointwise\.bn\.", lambda m: f"jpu.dilation{int(m[1]) + 1}.1."),
    (
        r"neck\.steps\.(\d)\.(coarse|fine)\.(conv|bn)\.",
        lambda m: f"jpu.jum_{int(m[1]) + 1}.conv_{'l' if m[2] == 'coarse' else 'h'}.{_place(m[3])}.",
    ),
    (
        r"neck\.steps\.(\d)\.dilated\.(\d)\.(\w+)\.",
        lambda m: (
            f"jpu.jum_{int(m[1]) + 1}.dilation{int(m[2]) + 1}."
            + {"depthwise": "0.conv1", "depthwise_norm": "0.bn", "pointwise": "0.pointwise", "pointwise_norm": "1"}[
                m[3]
            ]
            + "."
        ),
    ),
    (r"auxiliary\.convs\.0\.(conv|bn)\.", lambda m: f"auxlayer.conv5.{_place(m[1])}."),
    (r"auxiliary\.classifier\.", "auxlayer.conv5.4."),
)
THEIR_HEADS = {
    "enc": (
        (r"head\.bottleneck\.(conv|bn)\.", lambda m: f"head.conv5.{_place(m[1])}."),
        (r"head\.project\.(conv|bn)\.", lambda m: f"head.encmodule.encoding.{_place(m[1])}."),
        (r"head\.encoding\.", "head.encmodule.encoding.3."),
        (r"head\.encoding_bn\.", "head.encmodule.encoding.4."),
        (r"head\.gate\.", "head.encmodule.fc.0."),
        (r"head\.se_layer\.", "head.encmodule.selayer."),
        (r"head\.classifier\.", "head.conv6.1."),
    ),
    "psp": (
        (r"head\.pooled\.(\d)\.(conv|bn)\.", lambda m: f"head.conv5.0.conv{int(m[1]) + 1}.{_place(m[2])}."),
        (r"head\.bottleneck\.conv\.", "head.conv5.1."),
        (r"head\.bottleneck\.bn\.", "head.conv5.2."),
        (r"head\.classifier\.", "head.conv5.5."),
    ),
    "deeplabv3": (
        (r"head\.branches\.(\d)\.(conv|bn)\.", lambda m: f"head.aspp.b{m[1]}.{_place(m[2])}."),
        (r"head\.image_pool\.(conv|bn)\.", lambda m: f"head.aspp.b4.gap.{_place(m[1]) + 1}."),
        (r"head\.bottleneck\.(conv|bn)\.", lambda m: f"head.aspp.project.{_place(m[1])}."),
        (r"head\.block\.(conv|bn)\.", lambda m: f"head.block.{_place(m[1])}."),
        (r"head\.classifier\.", "head.block.4."),
    ),
}


def _place(part: str) -> int:
    return ("conv", "bn").index(part)


def their_state(state: dict[str, Tensor], head: str) -> dict[str, Tensor]:
    """Our tensors under their names and in their order: what `from_official` undoes."""
    theirs = {"pretrained.fc.weight": torch.zeros(1000, 4), "pretrained.fc.bias": torch.zeros(1000)}
    for name, value in state.items():
        ours, new = next(pair for pair in THEIRS + THEIR_HEADS[head] if re.match(pair[0], name))
        if re.match(r"neck\.dilated\.\d\.(depthwise|pointwise\.conv)", name) and value.ndim:
            fine, middle, coarse = value.chunk(3, dim=1 if "pointwise" in name else 0)
            value = torch.cat([coarse, middle, fine], dim=1 if "pointwise" in name else 0)
        if head == "deeplabv3" and name == "head.bottleneck.conv.weight":
            image, *branches = value.chunk(5, dim=1)
            value = torch.cat([*branches, image], dim=1)
        theirs[re.sub(ours, new, name, count=1)] = value
    return theirs


def save_official(
    path: Path, state: dict[str, Tensor], *, zipped: bool = True, best: object = np.float64(0.51)
) -> Path:
    """A training checkpoint of the official code: weights, momentum, and the best score as a NumPy number."""
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.01, "params": [0]}]}
    content = {"epoch": 80, "state_dict": state, "optimizer": optimizer, "best_pred": best}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path
