"""FastFCN's official code (wuhuikai/FastFCN) on a CPU: networks, calibrated weights, checkpoints, evaluation, training.

It is imported from a checkout, which is not changed. What it needs from a GPU, from old PyTorch versions or from unused
libraries is patched while it runs.
"""

import contextlib
import functools
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

UNUSED = ("requests", "scipy", "scipy.io", "tqdm")  # for downloads, datasets and progress bars
MODELS = {"enc": "encnet", "psp": "psp", "deeplabv3": "deeplab"}
LOGITS_STD = 3.0
MOMENTUM = 0.1


class EmptyModule(ModuleType):
    """A module whose attributes are all None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def load(checkout: Path) -> Any:
    """Its package `encoding`, patched to run on a CPU."""
    if not (checkout / "encoding" / "models" / "base.py").is_file():
        raise SystemExit(f"{checkout} is not a checkout of https://github.com/wuhuikai/FastFCN")
    for name in UNUSED:
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = EmptyModule(name)
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign, assignment]
    torch.cuda.device_of = lambda _: contextlib.nullcontext()  # type: ignore[assignment, misc]
    # The old name of `saved_tensors`, which the Encoding layer's backward uses.
    torch.autograd.function.FunctionCtx.saved_variables = property(lambda self: self.saved_tensors)  # type: ignore
    sys.path.insert(0, str(checkout))
    encoding = importlib.import_module("encoding")
    for name in ("resnet50", "resnet101"):  # do not download weights
        constructor = getattr(encoding.dilated, name)
        setattr(encoding.dilated, name, functools.partial(_without_pretrained, constructor))
    return encoding


def _without_pretrained(constructor: Any, pretrained: bool, **settings: Any) -> nn.Module:
    return constructor(pretrained=False, **settings)


def build(encoding: Any, head: str, neck: str, depth: int, data: str) -> nn.Module:
    """The network for its options `--model`, `--jpu`, `--backbone` and `--dataset`, with fixed random weights."""
    torch.manual_seed(0)
    return encoding.models.get_segmentation_model(
        MODELS[head], dataset=data, backbone=f"resnet{depth}", dilated=False, lateral=False, jpu=neck.upper(),
        aux=True, se_loss=head == "enc", norm_layer=encoding.nn.BatchNorm, base_size=520, crop_size=480,
    )  # fmt: skip


def classifiers(model: nn.Module) -> tuple[nn.Conv2d, nn.Conv2d]:
    """The last convolution of the head, and of the auxiliary head."""
    last = [
        [layer for layer in part.modules() if isinstance(layer, nn.Conv2d)][-1] for part in (model.head, model.auxlayer)
    ]
    return last[0], last[1]


@torch.no_grad()
def calibrate_weights(model: nn.Module, samples: Tensor, compared: Tensor) -> None:
    """Give an untrained model weights that predict many classes, in place; as for mmsegmentation's networks.

    Affine parameters of all norms are random, running statistics are those of `samples` (B, 3, H, W), and the logits of
    `compared` (1, 3, H, W) are scaled to mean 0 and a standard deviation of 3.
    """
    torch.manual_seed(0)
    for name, module in model.named_modules():
        if isinstance(module, (_BatchNorm, nn.GroupNorm)):
            low, high = (0.1, 0.5) if name.endswith("bn3") else (0.5, 1.5)
            nn.init.uniform_(module.weight, low, high)
            nn.init.normal_(module.bias, 0.0, 0.2)
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    without_dropout(model)
    for norm in norms:
        norm.momentum = 1.0
    model.train()(samples)
    for norm in norms:
        norm.momentum = MOMENTUM
    for classifier in classifiers(model):
        nn.init.normal_(classifier.weight, 0.0, 0.05)
        nn.init.zeros_(classifier.bias)
    outputs = model.eval()(compared)
    for classifier, logits in zip(classifiers(model), (outputs[0], outputs[-1]), strict=True):
        mean = logits.mean((0, 2, 3))
        scale = LOGITS_STD / (logits - mean[:, None, None]).std()
        classifier.weight *= scale
        classifier.bias.copy_(-mean * scale)


def without_dropout(model: nn.Module) -> None:
    """Set the dropout rate to 0, in place, so that results can be compared."""
    for module in model.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0


def save(model: nn.Module, path: Path) -> None:
    """A checkpoint as its training writes it: weights, the optimizer's momentum and a NumPy number."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    best = np.float64(0.5105)
    content = {"epoch": 80, "state_dict": model.state_dict(), "optimizer": optimizer.state_dict(), "best_pred": best}
    torch.save(content, path)


@torch.no_grad()
def window_votes(
    encoding: Any, model: nn.Module, image: Tensor, base_size: int, crop: int, scales: Sequence[float], flip: bool
) -> Tensor:
    """Result of its MultiEvalModule for a normalized image (1, 3, H, W): (1, classes, H, W)."""
    model.base_size, model.crop_size = base_size, crop
    with quiet():
        evaluator = encoding.models.MultiEvalModule(model, model.nclass, flip=flip, scales=list(scales))
    return evaluator.eval()(image)


class Training:
    """Its training: parameter groups, schedule, losses and order of steps as in its train.py."""

    def __init__(self, encoding: Any, model: nn.Module, lr: float, steps: int, aux_weight: float):
        self.model = model.train()
        parts = (model.pretrained, model.jpu, model.head, model.auxlayer)
        groups = [
            {"params": part.parameters(), "lr": lr * factor}
            for part, factor in zip(parts, (1, 10, 10, 10), strict=True)
        ]
        self.optimizer = torch.optim.SGD(groups, lr=lr, momentum=0.9, weight_decay=1e-4)
        se_loss = model.se_loss
        self.criterion = encoding.nn.SegmentationLosses(
            se_loss=se_loss, aux=True, nclass=model.nclass, se_weight=0.2, aux_weight=aux_weight
        )
        with quiet():
            self.schedule = encoding.utils.LR_Scheduler("poly", lr, 1, steps)

    def step(self, index: int, images: Tensor, labels: Tensor) -> float:
        """One step; `labels` are -1 for ignored pixels."""
        with quiet():
            self.schedule(self.optimizer, index, 0, 0.0)
        self.optimizer.zero_grad()
        loss = self.criterion(*self.model(images), labels)
        loss.backward()
        self.optimizer.step()
        return float(loss)


@contextlib.contextmanager
def quiet() -> Any:
    """Suppress its output."""
    with Path(os.devnull).open("w") as devnull, contextlib.redirect_stdout(devnull):
        yield
