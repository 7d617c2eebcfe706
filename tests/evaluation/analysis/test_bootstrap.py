"""Bootstrap intervals against explicit resampling of images, and against ordinary draws with replacement."""

import math

import numpy as np
import pytest

from fastfcn.evaluation.analysis.bootstrap import Bootstrap, paired_difference

CLASSES, IMAGES = 4, 30


def images(seed: int = 0, count: int = IMAGES) -> list[np.ndarray]:
    """Confusion matrices of images, each with some of the classes; class 3 is only in the first image."""
    rng = np.random.default_rng(seed)
    matrices = [rng.integers(0, 50, (CLASSES, CLASSES)) + 80 * np.eye(CLASSES, dtype=int) for _ in range(count)]
    for index, matrix in enumerate(matrices):
        matrix[index % 3] = 0
        if index:
            matrix[3] = 0
    return matrices


def bootstrapped(matrices: list[np.ndarray], replicates: int = 200) -> Bootstrap:
    bootstrap = Bootstrap(len(matrices), CLASSES, replicates)
    for index, matrix in enumerate(matrices):
        bootstrap.update(index, matrix)
    return bootstrap


def iou_by_hand(matrices: list[np.ndarray], chosen: list[int]) -> list[float]:
    """IoU of each class over the images `chosen`, which may contain duplicates."""
    result = []
    for label in range(CLASSES):
        correct = union = true = 0
        for index in chosen:
            matrix = matrices[index]
            correct += int(matrix[label, label])
            true += int(matrix[label].sum())
            union += int(matrix[label].sum() + matrix[:, label].sum() - matrix[label, label])
        result.append(100 * correct / union if true else math.nan)
    return result


def percentile(values: list[float], percent: float) -> float:
    """Linear between the two nearest ranks."""
    known = sorted(value for value in values if not math.isnan(value))
    rank = percent / 100 * (len(known) - 1)
    low = math.floor(rank)
    high = min(low + 1, len(known) - 1)
    return known[low] + (rank - low) * (known[high] - known[low])


def test_intervals_match_explicit_resampling():
    """The same draws, as lists of images, in plain loops."""
    matrices, replicates = images(), 60
    rng, remaining = np.random.default_rng([0, IMAGES]), [IMAGES] * replicates
    drawn: list[list[int]] = [[] for _ in range(replicates)]
    for index in range(IMAGES):
        times = rng.binomial(remaining, 1 / (IMAGES - index))
        for replicate in range(replicates):
            drawn[replicate] += [index] * int(times[replicate])
            remaining[replicate] -= int(times[replicate])
    assert {len(indices) for indices in drawn} == {IMAGES}  # each replicate has as many images as there are
    expected = [iou_by_hand(matrices, indices) for indices in drawn]
    intervals = bootstrapped(matrices, replicates).intervals()
    np.testing.assert_allclose(intervals.replicates, expected)
    for label in range(3):
        column = [row[label] for row in expected]
        assert intervals.low[label] == pytest.approx(percentile(column, 2.5))
        assert intervals.high[label] == pytest.approx(percentile(column, 97.5))
    means = [float(np.mean([value for value in row if not math.isnan(value)])) for row in expected]
    assert intervals.miou == pytest.approx((percentile(means, 2.5), percentile(means, 97.5)))


def test_the_draw_matches_the_usual_bootstrap():
    """Against indices drawn with replacement by another generator: the same intervals up to sampling noise."""
    matrices = images()
    rng = np.random.default_rng(7)
    reference = [iou_by_hand(matrices, rng.integers(0, IMAGES, IMAGES).tolist()) for _ in range(600)]
    intervals = bootstrapped(matrices, 4000).intervals()
    for label in range(3):
        column = [row[label] for row in reference]
        width = percentile(column, 97.5) - percentile(column, 2.5)
        assert intervals.low[label] == pytest.approx(percentile(column, 2.5), abs=0.15 * width)
        assert intervals.high[label] == pytest.approx(percentile(column, 97.5), abs=0.15 * width)


def test_a_class_in_one_image_has_no_interval():
    intervals = bootstrapped(images()).intervals()
    assert math.isnan(intervals.low[3])
    assert not np.isnan(intervals.low[:3]).any()
    assert math.isnan(bootstrapped(images(count=1)).intervals().miou[0])


def test_sums_of_several_processes_add_up():
    matrices = images()
    parts = [Bootstrap(IMAGES, CLASSES, 50) for _ in range(3)]
    for index, matrix in enumerate(matrices):
        parts[index % 3].update(index, matrix)
    np.testing.assert_array_equal(sum(part.sums for part in parts), bootstrapped(matrices, 50).sums)


def test_paired_difference_uses_the_same_draws():
    """A network slightly better on every image: a significant difference although both intervals overlap."""
    worse = images()
    better = [matrix + 4 * np.diag(matrix.sum(1) > 0) for matrix in worse]
    first, second = bootstrapped(better).intervals(), bootstrapped(worse).intervals()
    low, high, miou = paired_difference(first, second)
    assert first.low[0] < second.high[0]
    assert (low[:3] > 0).all()
    assert (high[:3] > low[:3]).all()
    assert 0 < miou[0] < miou[1]
    assert math.isnan(low[3])
