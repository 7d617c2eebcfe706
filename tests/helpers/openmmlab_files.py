"""Small checkpoints in mmsegmentation's format, without mmengine or mmcv."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

# (our name, OpenMMLab's name), the first that matches.
NAMES = (
    (r"backbone\.conv1\.", "backbone.stem."),
    (r"backbone\.bn1\.", "backbone.stem.7."),
    (r"neck\.lateral\.(\d)\.", r"neck.conv_layers.\1.0."),
    (r"neck\.dilated\.(\d)\.(depth|point)wise\.", r"neck.dilation_layers.\1.0.\2wise_conv."),
    (r"head\.classifier\.", "decode_head.conv_seg."),
    (r"head\.bottleneck\.", "decode_head.bottleneck."),
    (r"head\.pooled\.(\d)\.", r"decode_head.psp_modules.\1.1."),
    (r"head\.image_pool\.", "decode_head.image_pool.1."),
    (r"head\.branches\.(\d)\.", r"decode_head.aspp_modules.\1."),
    (r"head\.project\.", "decode_head.enc_module.encoding_project."),
    (r"head\.encoding\.", "decode_head.enc_module.encoding.0."),
    (r"head\.encoding_bn\.", "decode_head.enc_module.encoding.1."),
    (r"head\.gate\.", "decode_head.enc_module.fc.0."),
    (r"head\.se_layer\.", "decode_head.se_layer."),
    (r"auxiliary\.classifier\.", "auxiliary_head.conv_seg."),
    (r"auxiliary\.convs\.(\d)\.", r"auxiliary_head.convs.\1."),
)


def openmmlab_name(name: str) -> str:
    for ours, theirs in NAMES:
        if re.match(ours, name):
            return re.sub(ours, theirs, name, count=1)
    return name


def openmmlab_state(model: torch.nn.Module) -> dict[str, Tensor]:
    return {openmmlab_name(name): value for name, value in model.state_dict().items()}


@contextmanager
def pretended(name: str, **attributes: Any) -> Iterator[type]:
    """A class of that full name, in a module that exists within the context: enough to pickle it."""
    module, _, title = name.rpartition(".")
    parts = module.split(".")
    parents = [".".join(parts[: index + 1]) for index in range(len(parts))]
    before = {parent: sys.modules.get(parent) for parent in parents}
    made = type(title, attributes.pop("bases", (object,)), {"__module__": module, **attributes})
    for parent in parents:
        sys.modules[parent] = ModuleType(parent)
    setattr(sys.modules[module], title, made)
    try:
        yield made
    finally:
        for parent, old in before.items():
            if old is None:
                del sys.modules[parent]
            else:
                sys.modules[parent] = old


def _mean(_buffer: object) -> float:
    """A method, which pickle names in its own way."""
    return 0.0


_mean.__module__, _mean.__qualname__ = "mmengine.logging.history_buffer", "HistoryBuffer.mean"


def save_1x(path: Path, state: dict[str, Tensor], classes: list[str]) -> Path:
    """What mmengine's Runner writes: the log's history, numpy numbers and all."""
    meta = {
        "epoch": 0,
        "iter": 80000,
        "cfg": "model = dict(type='EncoderDecoder')",
        "seed": 1,
        "dataset_meta": {"classes": tuple(classes), "palette": [[0, 0, 0]] * len(classes)},
    }
    with pretended("mmengine.logging.history_buffer.HistoryBuffer", mean=_mean) as history:
        buffer = history()
        buffer.max_length = 1000000
        buffer._log_history = np.array([3.1, 2.7, 0.4])
        buffer._count_history = np.array([1, 1, 1])
        buffer._statistics_methods = {"mean": history.mean}
        hub = {"log_scalars": {"train/loss": buffer}, "runtime_info": {"best": np.float32(0.79), "none": np.array([])}}
        content = {"meta": meta, "state_dict": state, "message_hub": hub, "param_schedulers": [{"last_step": 80000}]}
        torch.save(content, path)
    return path


def save_0x(path: Path, state: dict[str, Tensor], classes: list[str]) -> Path:
    """What mmcv wrote in 2021: names in `meta.CLASSES`, an optimizer, the older file format."""
    meta = {"env_info": "torch 1.8", "seed": 0, "CLASSES": classes, "PALETTE": [[0, 0, 0]] * len(classes), "iter": 9}
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.01, "params": [0]}]}
    content = {"meta": meta, "state_dict": state, "optimizer": optimizer}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path
