"""Reliability, ECE and temperature against loops over single pixels."""

import math

import numpy as np
import pytest
import torch

from fastfcn.evaluation.analysis.calibration import BINS, Calibration

CLASSES, SIZE = 5, (20, 30)


def network(sharpness: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (classes, H, W) of a network that is right as often as their softmax says, times `sharpness`."""
    chance = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(CLASSES, *SIZE, generator=chance)
    label = torch.multinomial(scores.flatten(1).softmax(0).T, 1, generator=chance).reshape(SIZE).to(torch.uint8)
    return sharpness * scores, label


def ece_by_hand(shares: np.ndarray, label: np.ndarray) -> float:
    """Guo et al. 2017, equation 3, pixel by pixel; shares (pixels, classes)."""
    bins = [[] for _ in range(BINS)]
    for row, true in zip(shares, label, strict=True):
        best = max(range(len(row)), key=lambda each: row[each])
        bins[min(int(row[best] * BINS), BINS - 1)].append((row[best], best == true))
    total = sum(len(each) for each in bins)
    ece = 0.0
    for each in filter(None, bins):
        confidence, accuracy = sum(a for a, _ in each) / len(each), sum(b for _, b in each) / len(each)
        ece += len(each) / total * abs(accuracy - confidence)
    return ece


def loss_by_hand(scores: np.ndarray, label: np.ndarray, temperature: float) -> float:
    total = 0.0
    for row, true in zip(scores, label, strict=True):
        warmed = [each / temperature for each in row]
        most = max(warmed)
        total += most + math.log(sum(math.exp(each - most) for each in warmed)) - warmed[true]
    return total / len(label)


def lowest(call, low: float, high: float) -> float:
    """Golden-section search."""
    ratio = (math.sqrt(5) - 1) / 2
    while high - low > 1e-3:
        first, second = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, second) if call(first) < call(second) else (first, high)
    return (low + high) / 2


def test_ece_is_that_of_the_formula_without_ignored_pixels():
    scores, label = network(2.0)
    label[:3] = 255
    shares = scores.softmax(0)
    calibration, labelled = Calibration(), label != 255
    confidence, predicted = shares.max(0)
    calibration.update(confidence[labelled].double().numpy(), (predicted == label)[labelled].numpy())
    found = calibration.reliability()
    assert found.pixels.sum() == labelled.sum()
    expected = ece_by_hand(shares[:, labelled].T.double().numpy(), label[labelled].numpy())
    assert found.ece == pytest.approx(expected, rel=1e-9)
    assert expected > 0.05


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.5])
def test_the_temperature_undoes_what_was_done_to_the_scores(sharpness):
    scores, label = network(sharpness)
    calibration = Calibration()
    calibration.sample(3, 0, scores.softmax(0), label, pixels=800)
    places = np.sort(np.random.default_rng([0, 3, 0]).integers(0, label.numel(), 800))
    drawn, true = scores.flatten(1).T.numpy()[places], label.flatten().numpy()[places]
    expected = lowest(lambda each: loss_by_hand(drawn[:300], true[:300], each), 0.2, 6.0)
    part = Calibration()  # the search by hand is slow: 300 of the pixels
    part._add(torch.from_numpy(drawn[:300]).double().softmax(1), torch.from_numpy(true[:300]).long())
    found = part.calibrated()
    assert found
    assert not found.bounded
    assert found.temperature == pytest.approx(expected, rel=0.005)
    whole = calibration.calibrated()
    assert whole
    assert whole.sampled == 800
    assert whole.temperature == pytest.approx(sharpness, rel=0.2)
    assert whole.loss[0] == pytest.approx(loss_by_hand(drawn, true, 1.0), rel=1e-6)
    assert whole.loss[1] <= whole.loss[0]


def test_ece_at_the_temperature_is_that_of_warmed_scores():
    scores, label = network(3.0)
    rows, true = scores.flatten(1).T.double(), label.flatten().long()
    calibration = Calibration()
    calibration._add(rows.softmax(1), true)
    found = calibration.calibrated()
    assert found
    best = calibration.losses.argmin()
    from fastfcn.evaluation.analysis.calibration import TEMPERATURES

    expected = ece_by_hand((rows / TEMPERATURES[best]).softmax(1).numpy(), true.numpy())
    assert found.reliability.ece == pytest.approx(expected, rel=1e-6)
    assert found.ece == pytest.approx(ece_by_hand(rows.softmax(1).numpy(), true.numpy()), rel=1e-6)
    assert found.reliability.ece < found.ece


def test_the_same_pixels_are_drawn_again_and_ignored_ones_dropped():
    scores, label = network(1.0)
    label[10:] = 255
    twice = [Calibration(), Calibration()]
    for each in twice:
        each.sample(0, 0, scores.softmax(0), label, pixels=400)
    assert twice[0].losses.tolist() == twice[1].losses.tolist()
    assert 150 < twice[0].sampled[0] < 250
    nothing = Calibration()
    nothing.sample(0, 0, scores.softmax(0), torch.full_like(label, 255), pixels=50)
    assert nothing.calibrated() is None
