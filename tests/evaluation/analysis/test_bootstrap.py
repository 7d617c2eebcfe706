"""Bootstrap intervals against loops that draw whole images again, and against the usual draw with replacement."""

import math

import numpy as np
import pytest

from fastfcn.evaluation.analysis.bootstrap import Resampling, paired_difference

CLASSES, IMAGES = 4, 30


def images(seed: int = 0, count: int = IMAGES) -> list[np.ndarray]:
    """Confusion matrices of images, each with some of the classes; class 3 is in the first image alone."""
    chance = np.random.default_rng(seed)
    matrices = [chance.integers(0, 50, (CLASSES, CLASSES)) + 80 * np.eye(CLASSES, dtype=int) for _ in range(count)]
    for index, matrix in enumerate(matrices):
        matrix[index % 3] = 0
        if index:
            matrix[3] = 0
    return matrices


def resampled(matrices: list[np.ndarray], replicates: int = 200) -> Resampling:
    resampling = Resampling(len(matrices), CLASSES, replicates)
    for index, matrix in enumerate(matrices):
        resampling.update(index, matrix)
    return resampling


def iou_by_hand(matrices: list[np.ndarray], chosen: list[int]) -> list[float]:
    """IoU of each class over the images `chosen`, which may come more than once."""
    result = []
    for each in range(CLASSES):
        right = union = true = 0
        for index in chosen:
            matrix = matrices[index]
            right += int(matrix[each, each])
            true += int(matrix[each].sum())
            union += int(matrix[each].sum() + matrix[:, each].sum() - matrix[each, each])
        result.append(100 * right / union if true else math.nan)
    return result


def percentile(values: list[float], percent: float) -> float:
    """Linear between the two nearest ranks."""
    known = sorted(each for each in values if not math.isnan(each))
    place = percent / 100 * (len(known) - 1)
    low = math.floor(place)
    high = min(low + 1, len(known) - 1)
    return known[low] + (place - low) * (known[high] - known[low])


def test_intervals_are_those_of_the_drawn_images():
    """The same draws, as lists of images, gone through in plain loops."""
    matrices, replicates = images(), 60
    chance, left = np.random.default_rng([0, IMAGES]), [IMAGES] * replicates
    drawn: list[list[int]] = [[] for _ in range(replicates)]
    for index in range(IMAGES):
        times = chance.binomial(left, 1 / (IMAGES - index))
        for replicate in range(replicates):
            drawn[replicate] += [index] * int(times[replicate])
            left[replicate] -= int(times[replicate])
    assert {len(each) for each in drawn} == {IMAGES}  # each replicate has as many images as there are
    by_hand = [iou_by_hand(matrices, each) for each in drawn]
    found = resampled(matrices, replicates).intervals()
    np.testing.assert_allclose(found.replicates, by_hand)
    for each in range(3):
        column = [row[each] for row in by_hand]
        assert found.low[each] == pytest.approx(percentile(column, 2.5))
        assert found.high[each] == pytest.approx(percentile(column, 97.5))
    means = [float(np.mean([value for value in row if not math.isnan(value)])) for row in by_hand]
    assert found.miou == pytest.approx((percentile(means, 2.5), percentile(means, 97.5)))


def test_the_draw_is_that_of_the_usual_bootstrap():
    """Against indices drawn with replacement by another generator: the same intervals up to chance."""
    matrices = images()
    chance = np.random.default_rng(7)
    usual = [iou_by_hand(matrices, chance.integers(0, IMAGES, IMAGES).tolist()) for _ in range(600)]
    found = resampled(matrices, 4000).intervals()
    for each in range(3):
        column = [row[each] for row in usual]
        width = percentile(column, 97.5) - percentile(column, 2.5)
        assert found.low[each] == pytest.approx(percentile(column, 2.5), abs=0.15 * width)
        assert found.high[each] == pytest.approx(percentile(column, 97.5), abs=0.15 * width)


def test_a_class_of_one_image_has_no_interval():
    found = resampled(images()).intervals()
    assert math.isnan(found.low[3])
    assert not np.isnan(found.low[:3]).any()
    assert math.isnan(resampled(images(count=1)).intervals().miou[0])


def test_processes_that_share_the_images_sum_to_one():
    matrices = images()
    parts = [Resampling(IMAGES, CLASSES, 50) for _ in range(3)]
    for index, matrix in enumerate(matrices):
        parts[index % 3].update(index, matrix)
    np.testing.assert_array_equal(sum(each.sums for each in parts), resampled(matrices, 50).sums)


def test_a_pair_is_compared_on_the_same_draws():
    """A network that is a little better on every image: surely better, though both intervals overlap widely."""
    worse = images()
    better = [matrix + 4 * np.diag(matrix.sum(1) > 0) for matrix in worse]
    mine, theirs = resampled(better).intervals(), resampled(worse).intervals()
    low, high, whole = paired_difference(mine, theirs)
    assert mine.low[0] < theirs.high[0]
    assert (low[:3] > 0).all()
    assert (high[:3] > low[:3]).all()
    assert 0 < whole[0] < whole[1]
    assert math.isnan(low[3])
