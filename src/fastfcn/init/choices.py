"""The values of a new recipe, chosen from the dataset and the machine; each with its reason."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastfcn.checking.bands import BandCounts
from fastfcn.losses import weights_from_counts
from fastfcn.utils.sizes import Size

GIB = 2**30
# Pixels of the largest training images: more takes days on a CPU and does not fit into a small GPU.
MAX_PIXELS = {"cpu": 480 * 640, "small": 768 * 1024, "large": 1024 * 2048}
# Upper bound of a training step's memory per pixel of its crops, in bytes: measured with ResNet-50 and a JPU of 512
# channels, 1589 MiB for two crops of 256 x 512 in float32 (docs/benchmarks.md).
STEP_BYTES = 1589 * 2**20 / (2 * 256 * 512)
LITE = "tf_efficientnet_lite0"
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
IMBALANCED = 20  # ratio between the pixels of the most and the least frequent class
SMALL_FOREGROUND = 0.1  # fraction of pixels of the rarer of two classes below which Dice is used
MANY_CLASSES = 30  # above this number, weights per class are impractical to adjust by hand


@dataclass(frozen=True)
class TrainingMachine:
    """`kind`: "cpu", "cuda" or "mps"; `name` for messages; `memory` in GiB, of the GPU if there is one."""

    kind: str
    name: str
    memory: float


def this_machine(accelerator: str = "auto") -> TrainingMachine:
    """The current machine, with the device that `--accelerator` ("auto", "cpu", "cuda", "mps") selects."""
    import torch

    if accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        return TrainingMachine("cuda", device.name, device.total_memory / GIB)
    if accelerator in ("auto", "mps") and torch.backends.mps.is_available():
        return TrainingMachine("mps", "an Apple GPU", _memory() / 2)  # it shares the memory with all other programs
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return TrainingMachine("cpu", f"{cores} CPU cores" if cores > 1 else "one CPU core", _memory())


def _memory() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    except (AttributeError, OSError, ValueError):  # not available on Windows
        return 8.0


@dataclass(frozen=True)
class Facts:
    """What the choices depend on.

    `train` and `val` count images, `sizes` counts images by (height, width), `shares` are the fractions of labeled
    pixels per class, `bands` the statistics of images that are not RGB.
    """

    train: int
    val: int
    sizes: dict[Size, int]
    names: tuple[str, ...]
    shares: tuple[float, ...]
    pretrained: str
    backbone: str  # "" = choose one
    machine: TrainingMachine
    bands: tuple[BandCounts, ...] = ()  # empty for RGB


@dataclass(frozen=True)
class Choice:
    """A value of the recipe and the reason for it."""

    value: Any
    reason: str


def machine_class(machine: TrainingMachine) -> str:
    """ "cpu", or "small" or "large" for a GPU."""
    if machine.kind == "cpu":
        return "cpu"
    return "large" if machine.memory >= 15 else "small"


def base_size(facts: Facts) -> Choice:
    """The median image size, or less if the machine is too small for it."""
    height, width = (_median(facts.sizes, axis) for axis in (0, 1))
    limit = MAX_PIXELS[machine_class(facts.machine)]
    source = f"{'All images are' if len(facts.sizes) == 1 else 'The median image size is'} {height} x {width}"
    if height * width <= limit:
        return Choice((height, width), f"{source}; scale_range multiplies this size.")
    factor = (limit / (height * width)) ** 0.5
    smaller = max(round(height * factor), 32), max(round(width * factor), 32)
    return Choice(smaller, f"{source}; reduced for {facts.machine.name}. Larger sizes show small objects better.")


def test_size(facts: Facts, base: Size) -> Choice:
    """Evaluate images at about the size they are trained at."""
    height, width = (_median(facts.sizes, axis) for axis in (0, 1))
    similar = all(0.67 < (h * w / (height * width)) ** 0.5 < 1.5 for h, w in facts.sizes)
    if base == (height, width) and similar:
        return Choice("none", "Images are evaluated at their original size.")
    return Choice(base, "Images are resized to fit the training size; scores are computed at their original size.")


def crop(base: Size) -> Choice:
    """Two thirds of the base size, in multiples of 32 pixels; sides up to 160 pixels in full."""
    height, width = (side if side <= 160 else max(160, 32 * round(side * 2 / 3 / 32)) for side in base)
    reason = "Two thirds of base_size" if (height, width) != base else "The whole image, because it is small"
    return Choice((height, width), f"{reason}.")


def batch(facts: Facts, size: Size) -> Choice:
    """At most 16 on a large GPU, else 8, limited by memory and number of images; at least 2 for batch norm."""
    memory = facts.machine.memory * GIB
    fitting = int(0.6 * memory / (STEP_BYTES * size[0] * size[1]))
    usual = 16 if machine_class(facts.machine) == "large" else 8
    by_memory = 2 ** (max(fitting, 1).bit_length() - 1)  # the next lower power of two
    by_images = 2 ** (max(facts.train, 2).bit_length() - 1)
    number = max(2, min(usual, by_memory, by_images))
    reason = "if memory runs out, halve it and optim.lr"
    if number == by_images < usual:
        reason = f"there are only {facts.train} training images"
    elif number < usual:
        reason = f"more may not fit into the {facts.machine.memory:.0f} GiB of {facts.machine.name}"
    return Choice(number, f"Images per step; {reason}.")


def steps(facts: Facts, number: int) -> Choice:
    """30 epochs on a CPU, 100 on a GPU, within bounds."""
    epochs, least, most = (30, 300, 2000) if facts.machine.kind == "cpu" else (100, 1000, 40_000)
    value = int(min(max(round(facts.train * epochs / number, -2), least), most))
    actual = value * number / max(facts.train, 1)
    more = " More steps improve the result." if facts.machine.kind == "cpu" else ""
    return Choice(value, f"{actual:.0f} epochs of {facts.train} training images.{more}")


def backbone(facts: Facts) -> Choice:
    """The timm model that the weights file suggests, or the largest one suitable for the machine."""
    if facts.backbone:
        return Choice(facts.backbone, "Selected with --backbone.")
    file = Path(facts.pretrained).name
    if match := re.search(r"resnet(18|34|50|101)(?!\d)", file):
        return Choice(match[0], f"Inferred from the file name {file}.")
    if match := re.search(r"efficientnet[-_]lite(\d)", file):
        return Choice(f"tf_efficientnet_lite{match[1]}", f"Inferred from the file name {file}.")
    if machine_class(facts.machine) == "cpu" and facts.pretrained == "imagenet":
        larger = "tf_efficientnet_lite2, resnet50"
        return Choice(LITE, f"Fast on {facts.machine.name}. Larger ones are slower and more accurate: {larger}.")
    name = {"cpu": "resnet18", "small": "resnet34", "large": "resnet50"}[machine_class(facts.machine)]
    return Choice(name, f"For {facts.machine.name}. Larger ones are slower and more accurate: {', '.join(RESNETS)}.")


def has_settable_strides(name: str) -> bool:
    """Whether a timm network is a plain ResNet: kind "resnet" in recipes; all others are of kind "pyramid"."""
    return re.fullmatch(r"resnet(18|34|50|101|152)(\..+)?", name) is not None


def width(facts: Facts) -> Choice:
    """Channels of JPU and head."""
    value = {"cpu": 96, "small": 128, "large": 256}[machine_class(facts.machine)]
    return Choice(value, f"Channels of JPU and head, reduced for {facts.machine.name}; the paper uses 512.")


def cat_max_ratio(facts: Facts) -> Choice:
    """The fraction of a crop that one class may fill."""
    largest = max(facts.shares)
    value = 0.75 if largest <= 0.6 else min(0.98, round((1 + largest) / 2, 2))
    name = facts.names[facts.shares.index(largest)]
    return Choice(value, f"Crops in which one class fills more are redrawn; {name} has {largest:.0%} of all pixels.")


def flip(names: Sequence[str]) -> Choice:
    """Horizontal flips, unless a class name contains left or right."""
    sided = [name for name in names if re.search(r"(?<![a-z])(left|right)(?![a-z])", name.lower())]
    if sided:
        return Choice(0.0, f"No horizontal flips, because they would swap the side of {sided[0]}.")
    return Choice(0.5, "Probability of a horizontal flip; 0.0 if left and right differ, as in text.")


def learning_rate(facts: Facts, number: int) -> Choice:
    """The learning rate, proportional to the batch size."""
    if facts.pretrained == "none":
        return Choice(0.05 * number / 8, "0.05 per batch of 8; random weights need a higher rate than pretrained ones.")
    return Choice(0.01 * number / 8, "0.01 per batch of 8. Halve it if the loss diverges.")


@dataclass(frozen=True)
class BackboneTraits:
    """What the settings depend on: layer norms rather than batch norms; drop path; the mean and standard deviation
    (0-255) that its ImageNet weights were trained with."""

    layer_norms: bool
    drop_path: bool
    mean: list[float]
    std: list[float]


RESNET_TRAITS = BackboneTraits(False, True, [123.675, 116.28, 103.53], [58.395, 57.12, 57.375])


@cache
def traits(name: str) -> BackboneTraits:
    """Traits of a timm network; those of a ResNet for one that cannot be a backbone, which `init` reports."""
    if has_settable_strides(name):
        return RESNET_TRAITS
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

    from fastfcn.models.backbone import backbone as timm_backbone
    from fastfcn.models.backbone import pretrained_normalization

    try:
        with torch.device("meta"):
            modules = list(timm_backbone(name).modules())
    except (RuntimeError, ValueError):
        return RESNET_TRAITS
    try:
        with torch.device("meta"):
            timm_backbone(name, drop_path=0.1)
        drop_path = True
    except ValueError:
        drop_path = False
    norms = [sum(isinstance(module, kind) for module in modules) for kind in (torch.nn.LayerNorm, BatchNorm)]
    mean, std = pretrained_normalization(name) or (RESNET_TRAITS.mean, RESNET_TRAITS.std)
    return BackboneTraits(norms[0] > norms[1], drop_path, mean, std)


def adamw_rate(facts: Facts, number: int) -> Choice:
    """The learning rate of AdamW, proportional to the batch size."""
    if facts.pretrained == "none":
        return Choice(
            0.001 * number / 8, "0.001 per batch of 8; random weights need a higher rate than pretrained ones."
        )
    return Choice(0.0002 * number / 8, "0.0002 per batch of 8. Halve it if the loss diverges.")


def choose_loss(names: Sequence[str], counts: Sequence[int]) -> Choice:
    """The section [loss] as a dictionary, chosen by class imbalance; `counts` are pixels per class."""
    total = max(sum(counts), 1)
    shares = {name: count / total for name, count in zip(names, counts, strict=True) if count}
    rarest, commonest = min(shares, key=lambda name: shares[name]), max(shares, key=lambda name: shares[name])
    ratio = shares[commonest] / shares[rarest]
    least = f"{shares[rarest]:.2%}" if shares[rarest] >= 0.0001 else "less than 0.01%"
    observed = f"{commonest} has {shares[commonest]:.1%} of the pixels, {rarest} {least}"
    if len(names) == 2 and shares[rarest] < SMALL_FOREGROUND:
        section: dict[str, Any] = {"kind": "dice", "dice": 1.0, "cross_entropy": 1.0, "mean_over": "labeled"}
        return Choice(section, f"{observed}: Dice weighs both classes equally, however small they are.")
    if ratio < IMBALANCED or len(shares) < 2:
        section = {"kind": "cross_entropy", "mean_over": "labeled"}
        return Choice(section, f"{observed}: balanced enough for plain cross-entropy.")
    if len(names) > MANY_CLASSES:
        section = {"kind": "ohem", "threshold": 0.7, "min_kept": 0.1}
        return Choice(section, f"{observed}: hard example mining focuses on rare classes.")
    weights = [round(weight, 3) for weight in weights_from_counts(counts, 0.5)]
    section = {"kind": "weighted_cross_entropy", "weights": weights, "mean_over": "labeled"}
    return Choice(section, f"{observed}: weights are the inverse square root of class frequency, mean 1 over pixels.")


def _median(sizes: dict[Size, int], axis: int) -> int:
    counted = sorted((size[axis], count) for size, count in sizes.items())
    half = sum(count for _, count in counted) / 2
    for length, count in counted:
        half -= count
        if half <= 0:
            return length
    return counted[-1][0]
