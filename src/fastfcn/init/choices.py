"""What to write into a recipe, from what the data and the machine are; each choice with its reason."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastfcn.init.machine import TrainingMachine
from fastfcn.utils.types import Size


@dataclass(frozen=True)
class Facts:
    """What choices depend on. `sizes`: images by (height, width); `shares`: of the labelled pixels, by class."""

    train: int
    val: int
    sizes: dict[Size, int]
    names: tuple[str, ...]
    shares: tuple[float, ...]
    pretrained: str
    backbone: str  # "" = to be chosen
    machine: TrainingMachine


@dataclass(frozen=True)
class Choice:
    """A value of the recipe, and why."""

    value: Any
    reason: str


# Pixels of the largest image worth training on: more on a processor takes days, on a small GPU does not fit.
LARGEST = {"cpu": 480 * 640, "small": 768 * 1024, "large": 1024 * 2048}
# Bytes that a step takes for each pixel of its crops, at most: measured with ResNet-50 and a JPU of 512 channels,
# 1589 MiB for two crops of 256 x 512 in float32 (README, "training memory").
STEP_BYTES = 1589 * 2**20 / (2 * 256 * 512)
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")


def room(machine: TrainingMachine) -> str:
    """Which of three classes a machine belongs to: "cpu", "small" or "large" GPU."""
    if machine.kind == "cpu":
        return "cpu"
    return "large" if machine.memory >= 15 else "small"


def base_size(facts: Facts) -> Choice:
    """About the size of the images, less where the machine has no room for them."""
    height, width = (_median(facts.sizes, axis) for axis in (0, 1))
    limit = LARGEST[room(facts.machine)]
    said = f"{height} x {width} is the size of {'all' if len(facts.sizes) == 1 else 'the middle of the'} images"
    if height * width <= limit:
        return Choice((height, width), f"{said}; the random scale multiplies it.")
    factor = (limit / (height * width)) ** 0.5
    smaller = max(round(height * factor), 32), max(round(width * factor), 32)
    return Choice(smaller, f"{said}; made smaller for {facts.machine.name}. More shows small things better.")


def test_size(facts: Facts, base: Size) -> Choice:
    """Images are evaluated at about the size they were trained at."""
    height, width = (_median(facts.sizes, axis) for axis in (0, 1))
    similar_size = all(0.67 < (h * w / (height * width)) ** 0.5 < 1.5 for h, w in facts.sizes)
    if base == (height, width) and similar_size:
        return Choice("none", "Each image at its own size.")
    return Choice(base, "Fitted into the size of training; scores are still taken at the images' own size.")


def crop(base: Size) -> Choice:
    """Two thirds of the base size, whole blocks of 32 pixels; small images as a whole."""
    height, width = (side if side <= 160 else max(160, 32 * round(side * 2 / 3 / 32)) for side in base)
    reason = "Two thirds of the size" if (height, width) != base else "Images as small as these are taken whole"
    return Choice((height, width), f"{reason}; what a step sees of an image.")


def batch(facts: Facts, size: Size) -> Choice:
    """Eight, or what there is room and are images for; never one, from which batch norm cannot learn."""
    memory = facts.machine.memory * 2**30
    fits = int(0.6 * memory / (STEP_BYTES * size[0] * size[1]))
    wanted = 16 if room(facts.machine) == "large" else 8
    number = max(2, min(wanted, 2 ** (max(fits, 1).bit_length() - 1), 2 ** (max(facts.train, 2).bit_length() - 1)))
    why = "a usual number; half of it, with half the rate, takes half the memory"
    if number == 2 ** (max(facts.train, 2).bit_length() - 1) < wanted:
        why = f"there are {facts.train} training images"
    elif number < wanted:
        why = f"more may not fit into the {facts.machine.memory:.0f} GiB of {facts.machine.name}"
    return Choice(number, f"Images a step: {why}.")


def steps(facts: Facts, number: int) -> Choice:
    """How long: 30 times through the images on a processor, 100 times on a GPU, within bounds."""
    times, least, most = (30, 300, 2000) if facts.machine.kind == "cpu" else (100, 1000, 40_000)
    wanted = round(facts.train * times / number, -2)
    value = int(min(max(wanted, least), most))
    seen = value * number / max(facts.train, 1)
    more = " More is better where there is time." if facts.machine.kind == "cpu" else ""
    return Choice(value, f"Each of the {facts.train} training images is seen {seen:.0f} times.{more}")


def backbone(facts: Facts) -> Choice:
    """The timm network: what the file of weights fits, else what the machine can train."""
    if facts.backbone:
        return Choice(facts.backbone, "As asked for.")
    named = re.search(r"resnet(18|34|50|101)(?!\d)", Path(facts.pretrained).name)
    if named:
        return Choice(named[0], f"What {Path(facts.pretrained).name} seems to be for.")
    name = {"cpu": "resnet18", "small": "resnet34", "large": "resnet50"}[room(facts.machine)]
    return Choice(name, f"For {facts.machine.name}; of {', '.join(RESNETS)} later ones see more and take longer.")


def width(facts: Facts) -> Choice:
    """Channels of JPU and head."""
    value = {"cpu": 96, "small": 128, "large": 256}[room(facts.machine)]
    return Choice(value, f"Channels of JPU and head: narrow, for {facts.machine.name}; 512 is the paper's.")


def cat_max_ratio(facts: Facts) -> Choice:
    """How much of a crop one class may fill."""
    largest = max(facts.shares)
    value = 0.75 if largest <= 0.6 else min(0.98, round((1 + largest) / 2, 2))
    name = facts.names[facts.shares.index(largest)]
    return Choice(value, f"A crop is drawn again while one class fills more of it; {name} has {largest:.0%} of all.")


def flip(names: Sequence[str]) -> Choice:
    """Mirrored images, unless a class is a side."""
    sided = [name for name in names if re.search(r"(?<![a-z])(left|right)(?![a-z])", name.lower())]
    if sided:
        return Choice(0.0, f"Never: a mirrored image would have the wrong side of {sided[0]}.")
    return Choice(0.5, "Mirrored half of the time; 0.0 where left and right differ, as in writing.")


def rate(facts: Facts, number: int) -> Choice:
    """The learning rate, in proportion to the batch."""
    if facts.pretrained == "none":
        return Choice(0.05 * number / 8, "Random weights need a higher rate than trained ones; 0.05 for a batch of 8.")
    return Choice(0.01 * number / 8, "0.01 for a batch of 8, in proportion. Halve it where the loss jumps.")


def _median(sizes: dict[Size, int], axis: int) -> int:
    counted = sorted((size[axis], count) for size, count in sizes.items())
    half = sum(count for _, count in counted) / 2
    for length, count in counted:
        half -= count
        if half <= 0:
            return length
    return counted[-1][0]
