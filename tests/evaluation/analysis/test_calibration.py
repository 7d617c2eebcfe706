"""Reliability, ECE and temperature against loops over single pixels."""

import math

import numpy as np
import pytest
import torch

from fastfcn.evaluation.analysis.calibration import BINS, Calibration

CLASSES, SIZE = 5, (20, 30)


def network(sharpness: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (classes, H, W) of a perfectly calibrated network, multiplied by `sharpness`, and labels (H, W)."""
    rng = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(CLASSES, *SIZE, generator=rng)
    label = torch.multinomial(logits.flatten(1).softmax(0).T, 1, generator=rng).reshape(SIZE).to(torch.uint8)
    return sharpness * logits, label


def ece_by_hand(probabilities: np.ndarray, label: np.ndarray) -> float:
    """Guo et al. 2017, equation 3, pixel by pixel; probabilities (pixels, classes)."""
    bins = [[] for _ in range(BINS)]
    for row, true in zip(probabilities, label, strict=True):
        best = max(range(len(row)), key=lambda index: row[index])
        bins[min(int(row[best] * BINS), BINS - 1)].append((row[best], best == true))
    total = sum(len(pairs) for pairs in bins)
    ece = 0.0
    for pairs in filter(None, bins):
        confidence, accuracy = sum(a for a, _ in pairs) / len(pairs), sum(b for _, b in pairs) / len(pairs)
        ece += len(pairs) / total * abs(accuracy - confidence)
    return ece


def loss_by_hand(logits: np.ndarray, label: np.ndarray, temperature: float) -> float:
    total = 0.0
    for row, true in zip(logits, label, strict=True):
        scaled = [value / temperature for value in row]
        largest = max(scaled)
        total += largest + math.log(sum(math.exp(value - largest) for value in scaled)) - scaled[true]
    return total / len(label)


def lowest(call, low: float, high: float) -> float:
    """Golden-section search."""
    ratio = (math.sqrt(5) - 1) / 2
    while high - low > 1e-3:
        first, second = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, second) if call(first) < call(second) else (first, high)
    return (low + high) / 2


def test_ece_matches_the_formula_without_ignored_pixels():
    logits, label = network(2.0)
    label[:3] = 255
    probabilities = logits.softmax(0)
    calibration, labeled = Calibration(), label != 255
    confidence, predicted = probabilities.max(0)
    calibration.update(confidence[labeled].double().numpy(), (predicted == label)[labeled].numpy())
    result = calibration.reliability()
    assert result.pixels.sum() == labeled.sum()
    expected = ece_by_hand(probabilities[:, labeled].T.double().numpy(), label[labeled].numpy())
    assert result.ece == pytest.approx(expected, rel=1e-9)
    assert expected > 0.05


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.5])
def test_the_temperature_undoes_a_scaling_of_the_logits(sharpness):
    logits, label = network(sharpness)
    calibration = Calibration()
    calibration.sample(3, 0, logits.softmax(0), label, pixels=800)
    positions = np.sort(np.random.default_rng([0, 3, 0]).integers(0, label.numel(), 800))
    drawn, true = logits.flatten(1).T.numpy()[positions], label.flatten().numpy()[positions]
    expected = lowest(lambda temperature: loss_by_hand(drawn[:300], true[:300], temperature), 0.2, 6.0)
    part = Calibration()  # the reference search is slow: only 300 of the pixels
    part._add(torch.from_numpy(drawn[:300]).double().softmax(1), torch.from_numpy(true[:300]).long())
    result = part.temperature_scaling()
    assert result
    assert not result.at_limit
    assert result.temperature == pytest.approx(expected, rel=0.005)
    scaling = calibration.temperature_scaling()
    assert scaling
    assert scaling.pixels == 800
    assert scaling.temperature == pytest.approx(sharpness, rel=0.2)
    assert scaling.log_loss[0] == pytest.approx(loss_by_hand(drawn, true, 1.0), rel=1e-6)
    assert scaling.log_loss[1] <= scaling.log_loss[0]


def test_ece_after_scaling_matches_scaled_logits():
    logits, label = network(3.0)
    rows, true = logits.flatten(1).T.double(), label.flatten().long()
    calibration = Calibration()
    calibration._add(rows.softmax(1), true)
    result = calibration.temperature_scaling()
    assert result
    best = calibration.losses.argmin()
    from fastfcn.evaluation.analysis.calibration import TEMPERATURES

    expected = ece_by_hand((rows / TEMPERATURES[best]).softmax(1).numpy(), true.numpy())
    assert result.reliability.ece == pytest.approx(expected, rel=1e-6)
    assert result.ece == pytest.approx(ece_by_hand(rows.softmax(1).numpy(), true.numpy()), rel=1e-6)
    assert result.reliability.ece < result.ece


def test_sampling_is_repeatable_and_drops_ignored_pixels():
    logits, label = network(1.0)
    label[10:] = 255
    twice = [Calibration(), Calibration()]
    for calibration in twice:
        calibration.sample(0, 0, logits.softmax(0), label, pixels=400)
    assert twice[0].losses.tolist() == twice[1].losses.tolist()
    assert 150 < twice[0].sampled[0] < 250
    empty = Calibration()
    empty.sample(0, 0, logits.softmax(0), torch.full_like(label, 255), pixels=50)
    assert empty.temperature_scaling() is None
