"""A recipe as text, with a comment above every choice."""

from collections.abc import Iterator
from typing import Any

from fastfcn.init.choices import (
    Choice,
    Facts,
    backbone,
    base_size,
    batch,
    cat_max_ratio,
    crop,
    flip,
    rate,
    steps,
    test_size,
    width,
)
from fastfcn.recipes.validation import toml_text

HEADER = """\
# Drafted by `fastfcn init` from the images and this machine; every value is yours to change.
# What else may stand here: docs/recipes.md.
"""
LINE = 116  # characters of a comment before it goes on in the next line
Section = dict[str, Any]  # key -> a value, or a Choice with its reason


def draft_recipe(name: str, dataset: str, train: str, val: str, facts: Facts, loss: Choice) -> str:
    """The TOML of a recipe called `name` for the data set file `dataset`, as it is found from the recipe's place."""
    base = base_size(facts)
    size = crop(base.value)
    number = batch(facts, size.value)
    length = steps(facts, number.value)
    sections = {
        "": _top(name, facts),
        "data": _data(dataset, train, val, facts, base, size),
        "backbone": _backbone(facts),
        **_parts(facts),
        "loss": {**loss.value, "kind": Choice(loss.value["kind"], loss.reason)},
        "optim": _optim(facts, number, length),
        "eval": _eval(facts, base, length.value),
    }
    return HEADER + "\n".join("\n".join(_lines(title, section)) + "\n" for title, section in sections.items())


def _top(name: str, facts: Facts) -> Section:
    summary = f"PSPNet on a narrow JPU, {backbone(facts).value}, {len(facts.names)} classes of {name}"
    return {
        "format": 3, "name": name, "aliases": [], "summary": summary, "seed": 0, "load_from": "none",
        "weight_init": "pytorch",
    }  # fmt: skip


def _data(dataset: str, train: str, val: str, facts: Facts, base: Choice, size: Choice) -> Section:
    return {
        "dataset": Choice(dataset, "Beside this file: classes, colours, and where images and masks lie."),
        "train_split": train,
        "val_split": val,
        "mean": Choice([123.675, 116.28, 103.53], "Of ImageNet, which the backbone's weights were trained with."),
        "std": [58.395, 57.12, 57.375],
        "scale_by": "box",
        "base_size": base,
        "scale_range": Choice([0.75, 1.5], "Things are seen from nearer and from further away."),
        "interpolation": "opencv",
        "rotate": 0.0,
        "crop": size,
        "padding": "mean",
        "cat_max_ratio": cat_max_ratio(facts),
        "flip": flip(facts.names),
        "photometric_distortion": Choice(
            0.5, "Light and colours vary; 0.0 where a colour is what tells classes apart."
        ),
        "blur": 0.0,
    }


def _backbone(facts: Facts) -> Section:
    match facts.pretrained:
        case "imagenet":
            why = "Fetched at the first run, and kept. Without a network give a file, or random weights: none."
        case "none":
            why = "Random weights, as asked for: far more steps are needed than with trained ones."
        case _:
            why = "The file of weights that was asked for."
    return {
        "kind": "resnet",
        "name": backbone(facts),
        "pretrained": Choice(facts.pretrained, why),
        "strides": [1, 2, 2, 2],
        "dilations": [1, 1, 1, 1],
        "style": "pytorch",
    }


def _parts(facts: Facts) -> dict[str, Section]:
    channels = width(facts)
    plain = {"dropout": 0.1, "align_corners": False}
    return {
        "neck": {"kind": "jpu", "width": channels, "dilations": [1, 2, 4, 8], "align_corners": False},
        "head": {
            "kind": Choice("psp", "Sees the image as a whole, and in parts."),
            "width": channels.value, "pools": [1, 2, 3, 6], "kernel": 1, **plain,
        },
        "auxiliary": {
            "kind": "fcn", "stage": 2, "width": 64, "depth": 1, "kernel": 3, "dropout": 0.1, "loss_weight": 0.4,
        },
    }  # fmt: skip


def _optim(facts: Facts, number: Choice, length: Choice) -> Section:
    factor = 1.0 if facts.pretrained == "none" else 10.0
    why = "What is not pretrained learns faster." if factor > 1 else "Nothing is pretrained."
    return {
        "kind": "sgd",
        "lr": rate(facts, number.value),
        "head_lr_factor": Choice(factor, why),
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "power": 0.9,
        "min_lr": 0.0,
        "schedule_end": "last_step",
        "warmup_steps": Choice(length.value // 40, "The rate rises over the first steps."),
        "steps": length,
        "batch": number,
        "clip_norm": 0.0,
        "ema": 0.0,
    }


def _eval(facts: Facts, base: Choice, length: int) -> Section:
    times = 10 if facts.machine.kind != "cpu" else 5
    every = Choice(
        max(1, length // times), f"Scored {times} times on the {facts.val} held-out images; the best is kept."
    )
    return {
        "kind": "whole",
        "every": every,
        "resize": test_size(facts, base.value),
        "scales": Choice([0.75, 1.0, 1.25], "Of --tta, which is slower and a little better."),
        "flip": flip(facts.names).value > 0,
    }


def _lines(title: str, section: Section) -> Iterator[str]:
    if title:
        yield f"[{title}]"
    for key, found in section.items():
        if isinstance(found, Choice):
            yield from comment(found.reason)
            found = found.value
        yield f"{key} = {toml_text(found)}"


def comment(text: str) -> Iterator[str]:
    """`text` as lines of a comment."""
    line = "#"
    for word in text.split():
        if len(line) + len(word) >= LINE:
            yield line
            line = "#"
        line += f" {word}"
    yield line
