"""Findings of networks that are made up: any number of classes, with everything that a report shows."""

import numpy as np
import torch

from fastfcn.data.description import DataSetDescription, load_description
from fastfcn.evaluation.analysis.collector import Collector, Findings
from fastfcn.evaluation.analysis.images import Shown
from fastfcn.evaluation.analysis.mistakes import mistakes
from fastfcn.evaluation.analysis.speed import Speed
from fastfcn.metrics import Scores
from fastfcn.report.account import Account
from fastfcn.report.history import History, curve
from tests.helpers.tiny import picture, tiny_recipe

SIZE = (48, 64)
HOSTILE = "<script>alert('ä')</script> & a name of many words"


def description(classes: int) -> DataSetDescription:
    """ADE20K's first classes; the last of few bears a name that tries to be markup."""
    about = load_description("ade20k")
    named = list(about.classes[:classes])
    if classes < len(about.classes):
        named[-1] = named[-1].model_copy(update={"name": HOSTILE})
    return about.model_copy(update={"classes": tuple(named)})


def findings(classes: int, images: int = 3, seed: int = 0) -> Findings:
    """Blocks of classes, most of them found, with random shares; the last class is in no label."""
    chance = np.random.default_rng(seed)
    collector, total, shown = Collector(images, classes), np.zeros((classes, classes), np.int64), []
    for index in range(images):
        label = chance.integers(0, max(classes - 1, 1), (4, 4), np.uint8).repeat(12, 0).repeat(16, 1)
        label[:, :2] = 255
        shares = chance.random((classes, *SIZE), np.float32) ** 8
        likely = np.where(label == 255, 0, np.roll(label, 1, 0) % classes).astype(np.int64)
        shares += 2 * (np.arange(classes)[:, None, None] == likely) * (chance.random(SIZE) < 0.8)
        shares /= shares.sum(0)
        prediction = torch.from_numpy(shares).argmax(0).to(torch.uint8)
        collector.strip(index, 0, prediction, torch.from_numpy(shares), torch.from_numpy(label))
        collector.image(index, prediction, torch.from_numpy(label))
        known, found = label != 255, prediction.numpy()
        np.add.at(total, (label[known], found[known]), 1)
        kinds = mistakes(found, label)
        shown.append(Shown(index, f"street {index} ä", picture(*SIZE, seed=index), label, found, kinds, 40.0, 70.0))
    speed = Speed(12.5, 20, SIZE, "cpu", 1, 500.0, "most memory of the process")
    return collected(collector, description(classes), total, shown, speed)


def collected(
    collector: Collector, about: DataSetDescription, total: np.ndarray, shown: list[Shown], speed: Speed
) -> Findings:
    return Findings(
        about=about,
        split="val",
        images=len(shown),
        views="one scale",
        scores=Scores(total),
        **collector.figures(),
        worst=shown[:2],
        best=shown[2:],
        speed=speed,
    )


def account(tmp_path, classes: int, name: str, seed: int = 0) -> Account:
    """A run of 200 steps with two validations."""
    steps = np.arange(1, 201)
    noise = np.random.default_rng(seed).random(200)
    curves = {
        each: curve(np.stack([steps, values], 1))
        for each, values in (("loss", 3 / steps + noise), ("main", 2 / steps + noise), ("images_per_second", 9 + noise),
                             ("learning_rate", 0.01 - steps / 2e4))
    }  # fmt: skip
    validations = [(step, {"miou": step / 4, "pixel_accuracy": 80.0, "classes": {}}) for step in (100, 200)]
    environment = {
        "device": "cpu",
        "command": "fastfcn train " + "very-long-argument/" * 12,
        "versions": {"torch": "2"},
    }
    history = History(
        name, tmp_path, tiny_recipe(f"optim.lr=0.0{seed + 1}"), environment, curves, validations, None, "", {}
    )
    return Account(history, findings(classes, seed=seed))
