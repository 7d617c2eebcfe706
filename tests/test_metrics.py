"""The confusion matrix and its scores by hand, and edge cases; realistic sizes are in test_metrics_reference.py."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fastfcn import metrics
from fastfcn.metrics import ConfusionMatrix, Scores
from tests.helpers.gpu_waits import no_gpu_waits


def matrix_of(classes: int, *pairs: tuple[Tensor, Tensor]) -> ConfusionMatrix:
    matrix = ConfusionMatrix(classes)
    for prediction, label in pairs:
        matrix.update(prediction, label)
    return matrix


def test_by_hand():
    label = torch.tensor([[0, 0, 0, 1], [1, 1, 255, 255]], dtype=torch.uint8)
    prediction = torch.tensor([[0, 0, 1, 1], [1, 0, 2, 0]], dtype=torch.uint8)
    matrix = matrix_of(3, (prediction, label))
    assert matrix.counts.tolist() == [[2, 1, 0], [1, 2, 0], [0, 0, 0]]
    scores = Scores(matrix.counts.numpy())
    assert scores.pixels.tolist() == [3, 3, 0]
    np.testing.assert_allclose(scores.iou, [50.0, 50.0, math.nan])
    np.testing.assert_allclose(scores.accuracy, [200 / 3, 200 / 3, math.nan])
    assert scores.miou == 50.0
    assert scores.mean_accuracy == pytest.approx(200 / 3)
    assert scores.pixel_accuracy == pytest.approx(200 / 3)


def test_a_class_that_is_only_predicted_counts_against_the_mean():
    label, prediction = torch.tensor([0, 0], dtype=torch.uint8), torch.tensor([0, 2], dtype=torch.uint8)
    scores = Scores(matrix_of(3, (prediction, label)).counts.numpy())
    np.testing.assert_allclose(scores.iou, [50.0, math.nan, 0.0])
    np.testing.assert_allclose(scores.accuracy, [50.0, math.nan, math.nan])
    assert (scores.miou, scores.mean_accuracy) == (25.0, 50.0)


def test_image_by_image_is_all_at_once():
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 150, (7, 20, 30), generator=generator).to(torch.uint8)
    label[:, ::3] = 255
    prediction = torch.randint(0, 150, (7, 20, 30), generator=generator).to(torch.uint8)
    streamed = matrix_of(150, *zip(prediction, label, strict=True))
    assert torch.equal(streamed.counts, matrix_of(150, (prediction, label)).counts)
    assert streamed.counts.sum() == (label != 255).sum()


def test_counting_on_a_gpu_is_counting_on_a_cpu():
    generator = torch.Generator().manual_seed(0)
    prediction, label = (torch.randint(0, 5, (20, 30), generator=generator).to(torch.uint8) for _ in range(2))
    label[::3] = 255
    assert torch.equal(metrics._count_pairs_on_device(prediction, label, 5), metrics._count_pairs(prediction, label, 5))


def test_counting_does_not_wait_for_a_gpu():
    with no_gpu_waits():
        matrix = ConfusionMatrix(3, "cuda")
        labels = torch.zeros(4, 6, dtype=torch.uint8, device="cuda")
        matrix.update(labels, labels)
        assert (matrix.counts.shape, matrix.counts.dtype) == ((3, 3), torch.int64)


def test_counts_do_not_round():
    matrix = ConfusionMatrix(1)
    matrix.counts += 2**31
    matrix.update(torch.zeros(3, dtype=torch.uint8), torch.zeros(3, dtype=torch.uint8))
    assert matrix.counts.item() == 2**31 + 3


def test_types_and_layouts_do_not_matter():
    label = torch.randint(0, 200, (8, 9), generator=torch.Generator().manual_seed(0))
    prediction = label.flip(0)
    counts = matrix_of(200, (prediction, label)).counts
    other = matrix_of(200, (prediction.to(torch.uint8).T.contiguous().T, label.to(torch.uint8)[:, :])).counts
    assert torch.equal(counts, other)


def test_nothing_labeled_has_no_scores():
    label = torch.full((4, 4), 255, dtype=torch.uint8)
    matrix = matrix_of(3, (torch.zeros(4, 4, dtype=torch.uint8), label))
    assert not matrix.counts.any()
    scores = Scores(matrix.counts.numpy())
    assert math.isnan(scores.miou)
    assert math.isnan(scores.mean_accuracy)
    assert math.isnan(scores.pixel_accuracy)


def test_one_class():
    label = torch.tensor([[0, 255], [0, 0]], dtype=torch.uint8)
    scores = Scores(matrix_of(1, (torch.zeros(2, 2, dtype=torch.uint8), label)).counts.numpy())
    assert (scores.miou, scores.pixel_accuracy) == (100.0, 100.0)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        ConfusionMatrix(2).update(torch.zeros(2, 3), torch.zeros(3, 2))
