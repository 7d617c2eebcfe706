"""Whether a network is as often right as it is sure: reliability, ECE, and the temperature that would mend it.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, 2017 (equations 2, 3 and 9).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BINS = 15
SAMPLED = 1024  # pixels of an image whose shares are looked at for the temperature
TEMPERATURES = 2 ** (np.arange(-24, 37) / 12)  # from 1/4 to 8
PLAIN = 24  # where 1 is among them
SMALLEST = 1e-38  # a share below it counts as this


@dataclass(frozen=True)
class Reliability:
    """Bins of equal width over the confidence: `pixels` in each, their mean `confidence` and `accuracy` (0-1, nan
    where a bin is empty); `ece`, the mean distance between the two, weighted by pixels."""

    pixels: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    ece: float


@dataclass(frozen=True)
class Calibrated:
    """What a temperature does for a network: `temperature` divides the scores before softmax; `loss` is the mean
    negative log-likelihood, in nats, before and after, on `sampled` pixels; `ece` theirs before; `reliability` theirs
    after.
    `bounded`: the best temperature lies beyond those that were tried."""

    temperature: float
    loss: tuple[float, float]
    sampled: int
    ece: float
    reliability: Reliability
    bounded: bool


class Calibration:
    """Counts of all labelled pixels by confidence, and losses of a seeded sample of them at each of `TEMPERATURES`."""

    def __init__(self, seed: int = 0):
        self.seed = seed
        self.bins = np.zeros((3, BINS))  # pixels, sum of confidence, pixels that are right
        self.sampled_bins = np.zeros((len(TEMPERATURES), 3, BINS))
        self.losses = np.zeros(len(TEMPERATURES))
        self.sampled = np.zeros(1)

    def update(self, confidence: np.ndarray, right: np.ndarray) -> None:
        """Add labelled pixels: the share of the predicted class (0-1), and whether it is the true one."""
        self.bins += _binned(confidence, right)

    def sample(self, index: int, top: int, shares: Tensor, label: Tensor, pixels: int = SAMPLED) -> None:
        """Add `pixels` pixels, drawn by (seed, index, top), of shares (classes, rows, W) with their classes (rows, W);
        unlabelled ones are dropped."""
        chance = np.random.default_rng([self.seed, index, top])
        places = torch.from_numpy(np.sort(chance.integers(0, label.numel(), pixels)))
        true = label.flatten()[places.to(label.device)].cpu().long()
        drawn = shares.flatten(1)[:, places.to(shares.device)].cpu().double().T
        self._add(drawn[true < len(shares)], true[true < len(shares)])

    def _add(self, shares: Tensor, label: Tensor) -> None:
        logs = shares.clamp(min=SMALLEST).log()
        for index, temperature in enumerate(TEMPERATURES):
            warmed = (logs / temperature).log_softmax(1)
            best = warmed.max(1)
            self.losses[index] -= float(warmed.gather(1, label[:, None]).sum())
            self.sampled_bins[index] += _binned(best.values.exp().numpy(), (best.indices == label).numpy())
        self.sampled += len(label)

    def reliability(self) -> Reliability:
        """Of all labelled pixels, as the network is."""
        return _reliability(self.bins)

    def calibrated(self) -> Calibrated | None:
        """At the temperature of the least loss; None where no pixel was sampled."""
        count = int(self.sampled[0])
        if not count:
            return None
        best = int(self.losses.argmin())
        bounded = best in (0, len(TEMPERATURES) - 1)
        temperature = float(TEMPERATURES[best]) if bounded else _lowest(np.log(TEMPERATURES), self.losses, best)
        loss = (float(self.losses[PLAIN]) / count, float(self.losses[best]) / count)
        before, after = (_reliability(self.sampled_bins[each]) for each in (PLAIN, best))
        return Calibrated(temperature, loss, count, before.ece, after, bounded)


def _binned(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    weights = (None, confidence, right)
    return np.stack([np.bincount(place, each, minlength=BINS) for each in weights])


def _reliability(bins: np.ndarray) -> Reliability:
    pixels, confidence, right = bins
    with np.errstate(invalid="ignore"):
        gap = np.abs(right - confidence).sum() / pixels.sum()
        return Reliability(pixels, confidence / pixels, right / pixels, float(gap))


def _lowest(places: np.ndarray, values: np.ndarray, best: int) -> float:
    """Where the parabola through the lowest point and its two neighbours is lowest, on a logarithmic axis."""
    before, here, after = values[best - 1 : best + 2]
    step = places[1] - places[0]
    curve = before - 2 * here + after
    shift = 0.5 * (before - after) / curve if curve > 0 else 0.0
    return float(np.exp(places[best] + step * shift))
