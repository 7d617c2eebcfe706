"""Confidence calibration: reliability diagram, expected calibration error (ECE) and temperature scaling.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, 2017 (equations 2, 3 and 9).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BINS = 15
SAMPLED = 1024  # pixels drawn from each strip of an image to fit the temperature
TEMPERATURES = 2 ** (np.arange(-24, 37) / 12)  # from 1/4 to 8
UNSCALED = 24  # index of temperature 1
SMALLEST = 1e-38  # lower bound of a probability before its logarithm


@dataclass(frozen=True)
class Reliability:
    """Reliability diagram with bins of equal width over confidence.

    `pixels` in each bin, their mean `confidence` and `accuracy` (0-1, nan for an empty bin); `ece`: mean absolute
    difference between the two, weighted by pixels (0-1).
    """

    pixels: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    ece: float


@dataclass(frozen=True)
class TemperatureScaling:
    """The temperature with the lowest log loss, and its effect on a sample of `pixels` pixels.

    `temperature` divides the logits before softmax. `log_loss`: mean negative log-likelihood in nats, before and after;
    `ece`: ECE of the sample before scaling; `reliability`: diagram of the sample after scaling; `at_limit`: whether
    the best temperature is at the end of the range that was searched.
    """

    temperature: float
    log_loss: tuple[float, float]
    pixels: int
    ece: float
    reliability: Reliability
    at_limit: bool


class Calibration:
    """Counts all labeled pixels by confidence, and the log loss of a seeded sample at each of `TEMPERATURES`."""

    def __init__(self, seed: int = 0):
        self.seed = seed
        self.bins = np.zeros((3, BINS))  # pixels, sum of confidences, correct pixels
        self.sampled_bins = np.zeros((len(TEMPERATURES), 3, BINS))
        self.losses = np.zeros(len(TEMPERATURES))
        self.sampled = np.zeros(1)

    def update(self, confidence: np.ndarray, correct: np.ndarray) -> None:
        """Add labeled pixels: the probability of the predicted class (0-1), and whether it is the true class."""
        self.bins += _bin_sums(confidence, correct)

    def sample(self, index: int, top: int, probabilities: Tensor, label: Tensor, pixels: int = SAMPLED) -> None:
        """Add `pixels` random pixels of a strip; unlabeled ones are dropped.

        The draw is seeded by (seed, `index` of the image, `top` row of the strip). `probabilities`: (classes, rows, W);
        `label`: class indices (rows, W).
        """
        rng = np.random.default_rng([self.seed, index, top])
        positions = torch.from_numpy(np.sort(rng.integers(0, label.numel(), pixels)))
        true = label.flatten()[positions.to(label.device)].cpu().long()
        drawn = probabilities.flatten(1)[:, positions.to(probabilities.device)].cpu().double().T
        labeled = true < len(probabilities)
        self._add(drawn[labeled], true[labeled])

    def _add(self, probabilities: Tensor, label: Tensor) -> None:
        logs = probabilities.clamp(min=SMALLEST).log()
        for index, temperature in enumerate(TEMPERATURES):
            scaled = (logs / temperature).log_softmax(1)
            best = scaled.max(1)
            self.losses[index] -= float(scaled.gather(1, label[:, None]).sum())
            self.sampled_bins[index] += _bin_sums(best.values.exp().numpy(), (best.indices == label).numpy())
        self.sampled += len(label)

    def reliability(self) -> Reliability:
        """Diagram of all labeled pixels, without temperature scaling."""
        return _reliability(self.bins)

    def temperature_scaling(self) -> TemperatureScaling | None:
        """The temperature with the lowest log loss; None if no pixel was sampled."""
        count = int(self.sampled[0])
        if not count:
            return None
        best = int(self.losses.argmin())
        at_limit = best in (0, len(TEMPERATURES) - 1)
        temperature = float(TEMPERATURES[best]) if at_limit else _parabola_minimum(self.losses, best)
        log_loss = (float(self.losses[UNSCALED]) / count, float(self.losses[best]) / count)
        before, after = (_reliability(self.sampled_bins[row]) for row in (UNSCALED, best))
        return TemperatureScaling(temperature, log_loss, count, before.ece, after, at_limit)


def _bin_sums(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    return np.stack([np.bincount(bins, weights, minlength=BINS) for weights in (None, confidence, correct)])


def _reliability(bins: np.ndarray) -> Reliability:
    pixels, confidence, correct = bins
    with np.errstate(invalid="ignore"):
        ece = np.abs(correct - confidence).sum() / pixels.sum()
        return Reliability(pixels, confidence / pixels, correct / pixels, float(ece))


def _parabola_minimum(losses: np.ndarray, best: int) -> float:
    """Temperature at the minimum of the parabola through the lowest loss and its neighbors, on a logarithmic axis."""
    before, lowest, after = losses[best - 1 : best + 2]
    first, second = np.log(TEMPERATURES[:2])
    curvature = before - 2 * lowest + after
    shift = 0.5 * (before - after) / curvature if curvature > 0 else 0.0
    return float(np.exp(np.log(TEMPERATURES[best]) + (second - first) * shift))
