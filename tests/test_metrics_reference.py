"""Metrics against mmsegmentation's IoUMetric: its stored values, and a plain reimplementation.

The values were stored by benchmarks/parity/store_logits.py.
"""

import json

import numpy as np
import pytest
import torch

from fastfcn.metrics import ConfusionMatrix, Scores
from tests.helpers import random_maps
from tests.helpers.paths import STORED

CASES = json.loads((STORED / "logits" / "metrics.json").read_text())["cases"]
Pair = tuple[np.ndarray, np.ndarray]


def pairs_of(case: dict) -> list[Pair]:
    return [random_maps.draw(seed, **case["drawn"]) for seed in range(case["maps"])]


def scored(classes: int, pairs: list[Pair]) -> Scores:
    matrix = ConfusionMatrix(classes)
    for prediction, label in pairs:
        matrix.update(torch.from_numpy(prediction), torch.from_numpy(label))
    return Scores(matrix.counts.numpy())


def areas(classes: int, pairs: list[Pair]) -> dict[str, np.ndarray]:
    """A plain IoUMetric: per class, the pixels of intersection, union, prediction and label."""
    total = {name: np.zeros(classes, np.int64) for name in ("intersection", "union", "predicted", "labeled")}
    for prediction, label in pairs:
        kept = label != random_maps.IGNORE_INDEX
        for index in range(classes):
            predicted, true = (prediction == index) & kept, (label == index) & kept
            total["intersection"][index] += (predicted & true).sum()
            total["union"][index] += (predicted | true).sum()
            total["predicted"][index] += predicted.sum()
            total["labeled"][index] += true.sum()
    return total


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_equals_stored_iou_metric(case: dict):
    scores = scored(case["drawn"]["classes"], pairs_of(case))
    assert scores.counts.diagonal().tolist() == case["intersection"]
    assert scores.counts.sum(0).tolist() == case["predicted"]
    assert scores.counts.sum(1).tolist() == case["labeled"]
    assert round(scores.miou, 2) == case["mIoU"]
    assert round(scores.mean_accuracy, 2) == case["mAcc"]
    assert round(scores.pixel_accuracy, 2) == case["aAcc"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_equals_plain_restatement(case: dict):
    classes, pairs = case["drawn"]["classes"], pairs_of(case)
    scores, total = scored(classes, pairs), areas(classes, pairs)
    with np.errstate(invalid="ignore"):
        iou = 100 * total["intersection"] / total["union"]
        accuracy = 100 * total["intersection"] / total["labeled"]
    np.testing.assert_allclose(scores.iou, iou, rtol=1e-12)
    np.testing.assert_allclose(scores.accuracy, accuracy, rtol=1e-12)
    assert scores.miou == pytest.approx(np.nanmean(iou), rel=1e-12)
    assert scores.mean_accuracy == pytest.approx(np.nanmean(accuracy), rel=1e-12)
    overall = 100 * total["intersection"].sum() / total["labeled"].sum()
    assert scores.pixel_accuracy == pytest.approx(overall, rel=1e-12)
