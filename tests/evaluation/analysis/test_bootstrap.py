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


def shifted(values: list[float], value: float, percent: float) -> float:
    """A percentile without the bias of the bootstrap: the median minus the value of all images."""
    return percentile(values, percent) - (percentile(values, 50) - value)


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
    all_images = iou_by_hand(matrices, list(range(IMAGES)))
    np.testing.assert_allclose(intervals.iou, all_images)
    for label in range(3):
        column = [row[label] for row in expected]
        assert intervals.low[label] == pytest.approx(shifted(column, all_images[label], 2.5))
        assert intervals.high[label] == pytest.approx(shifted(column, all_images[label], 97.5))
    filled = [
        [all_images[label] if math.isnan(value) else value for label, value in enumerate(row)] for row in expected
    ]
    means, mean = [sum(row) / CLASSES for row in filled], sum(all_images) / CLASSES
    assert intervals.miou == pytest.approx((shifted(means, mean, 2.5), shifted(means, mean, 97.5)))


def test_the_draw_matches_the_usual_bootstrap():
    """Against indices drawn with replacement by another generator: the same intervals up to sampling noise."""
    matrices = images()
    rng = np.random.default_rng(7)
    reference = [iou_by_hand(matrices, rng.integers(0, IMAGES, IMAGES).tolist()) for _ in range(600)]
    intervals = bootstrapped(matrices, 4000).intervals()
    for label, value in enumerate(intervals.iou[:3]):
        column = [row[label] for row in reference]
        width = percentile(column, 97.5) - percentile(column, 2.5)
        assert intervals.low[label] == pytest.approx(shifted(column, value, 2.5), abs=0.15 * width)
        assert intervals.high[label] == pytest.approx(shifted(column, value, 97.5), abs=0.15 * width)


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


@pytest.mark.parametrize("seed", range(8))
def test_scores_are_inside_their_intervals_if_most_classes_are_rare(seed: int):
    """Twenty classes, each in one to three of 30 images and almost never right: a replicate lacks many of them."""
    rng, classes = np.random.default_rng(seed), 20
    places = [rng.choice(IMAGES, size=int(rng.integers(1, 4)), replace=False) for _ in range(classes)]
    bootstrap, total = Bootstrap(IMAGES, classes, 300), np.zeros((classes, classes), np.int64)
    for index in range(IMAGES):
        matrix = np.zeros((classes, classes), np.int64)
        for label in range(classes):
            if index in places[label] or label == 0:
                matrix[label] = rng.integers(0, 40, classes)
                matrix[label, label] = 2000 if label == 0 else rng.integers(0, 3)
        bootstrap.update(index, matrix)
        total += matrix
    intervals = bootstrap.intervals()
    correct = total.diagonal()
    iou = 100 * correct / (total.sum(0) + total.sum(1) - correct)
    np.testing.assert_allclose(intervals.iou, iou)
    known = ~np.isnan(intervals.low)
    assert 0 < known.sum() < classes
    assert (intervals.low[known] <= iou[known]).all()
    assert (iou[known] <= intervals.high[known]).all()
    assert intervals.miou[0] <= iou.mean() <= intervals.miou[1]
    assert intervals.miou[1] - intervals.miou[0] < 3  # a mean over the classes of each replicate is several points off


def test_the_interval_of_the_mean_contains_the_true_mean_about_as_often_as_it_says():
    """Samples of 100 images from a known population with two rare classes; 95 % intervals of 60 samples."""
    rng, shares, hits = np.random.default_rng(3), np.array([1, 0.6, 0.2, 0.1]), 0
    present = rng.random((20_000, CLASSES)) < shares
    size = rng.integers(50, 500, present.shape) * present
    correct = (size * rng.beta([9, 6, 3, 2], [1, 4, 7, 8], present.shape)).astype(np.int64)
    union = size + rng.integers(0, 30, present.shape)  # with false positives, which are everywhere
    true_mean = (100 * correct.sum(0) / union.sum(0)).mean()
    for seed in range(60):
        bootstrap = Bootstrap(100, CLASSES, 200, seed)
        for index, image in enumerate(rng.integers(0, len(size), 100)):
            times = bootstrap._draw(index)
            for number, values in enumerate((correct[image], union[image], size[image])):
                bootstrap.sums[number] += np.outer(times, values)
                bootstrap.totals[number] += values
            bootstrap.image_counts += size[image] > 0
        low, high = bootstrap.intervals().miou
        hits += low <= true_mean <= high
    assert 52 <= hits <= 60
