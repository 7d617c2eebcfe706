"""Synthetic runs and analyses for reports: any number of classes, with everything that a report shows."""

from pathlib import Path

import numpy as np
import torch

from fastfcn.data.description import DatasetDescription, load_description
from fastfcn.evaluation.analysis.analyze import Analysis, Collector
from fastfcn.evaluation.analysis.error_types import error_types
from fastfcn.evaluation.analysis.examples import ExampleImage
from fastfcn.evaluation.analysis.speed import Speed
from fastfcn.metrics import Scores
from fastfcn.report.run_report import History, RunReport, curve
from tests.helpers.tiny import picture, tiny_recipe

SIZE = (48, 64)
HOSTILE = "<script>alert('ä')</script> & a name of many words"


def description(classes: int) -> DatasetDescription:
    """The first classes of ADE20K; if there are fewer than all, the last one's name contains markup."""
    dataset = load_description("ade20k")
    labels = list(dataset.classes[:classes])
    if classes < len(dataset.classes):
        labels[-1] = labels[-1].model_copy(update={"name": HOSTILE})
    return dataset.model_copy(update={"classes": tuple(labels)})


def analysis(classes: int, images: int = 3, seed: int = 0) -> Analysis:
    """Blocks of classes, most predicted correctly, with random probabilities; the last class is in no label."""
    rng = np.random.default_rng(seed)
    collector, total, examples = Collector(images, classes), np.zeros((classes, classes), np.int64), []
    for index in range(images):
        label = rng.integers(0, max(classes - 1, 1), (4, 4), np.uint8).repeat(12, 0).repeat(16, 1)
        label[:, :2] = 255
        probabilities = rng.random((classes, *SIZE), np.float32) ** 8
        likely = np.where(label == 255, 0, np.roll(label, 1, 0) % classes).astype(np.int64)
        probabilities += 2 * (np.arange(classes)[:, None, None] == likely) * (rng.random(SIZE) < 0.8)
        probabilities /= probabilities.sum(0)
        labels = torch.from_numpy(probabilities).argmax(0).to(torch.uint8)
        collector.strip(index, 0, labels, torch.from_numpy(probabilities), torch.from_numpy(label))
        collector.image(index, labels, torch.from_numpy(label))
        labeled, predicted = label != 255, labels.numpy()
        np.add.at(total, (label[labeled], predicted[labeled]), 1)
        errors = error_types(predicted, label)
        image = picture(*SIZE, seed=index)
        examples.append(ExampleImage(index, f"street {index} ä", image, label, predicted, errors, 40.0, 70.0))
    return Analysis(
        description=description(classes),
        split="val",
        images=images,
        tta=False,
        scores=Scores(total),
        **collector.results(),
        worst=examples[:2],
        best=examples[2:],
        speed=Speed(12.5, 20, SIZE, "cpu", 1, 500.0, "peak of the process"),
    )


def run_report(folder: Path, classes: int, name: str, seed: int = 0) -> RunReport:
    """A run of 200 steps with two validations."""
    steps = np.arange(1, 201)
    noise = np.random.default_rng(seed).random(200)
    values = {
        "loss": 3 / steps + noise,
        "main": 2 / steps + noise,
        "images_per_second": 9 + noise,
        "learning_rate": 0.01 - steps / 2e4,
    }
    curves = {key: curve(np.stack([steps, logged], 1)) for key, logged in values.items()}
    validations = [(step, {"miou": step / 4, "pixel_accuracy": 80.0, "classes": {}}) for step in (100, 200)]
    environment = {
        "device": "cpu",
        "command": "fastfcn train " + "very-long-argument/" * 12,
        "versions": {"torch": "2"},
    }
    recipe = tiny_recipe(f"optim.lr=0.0{seed + 1}")
    history = History(name, folder, recipe, environment, curves, validations, None, "", {})
    return RunReport(history, analysis(classes, seed=seed))
