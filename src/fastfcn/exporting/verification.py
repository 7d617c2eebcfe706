"""Verification of an exported file at sizes other than the traced one.

Rounding errors grow with the logits and with the depth of a network, so no fixed bound suits all. The file and PyTorch
in float32 are both compared with PyTorch in float64: the file may err a few times as much as PyTorch does.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from math import isfinite
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from fastfcn.data.opencv_resize import resize_image
from fastfcn.data.transforms import normalize_batch
from fastfcn.errors import UserError, first_line
from fastfcn.models.segmenter import Segmenter
from fastfcn.prediction.runtimes.base import Session
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.sizes import Size

MAX_ERROR_RATIO = 4  # error of the file's logits, in PyTorch's own float32 errors
# PyTorch's error is taken to be at least this, relative to the largest logit: 32 units in the last place of float32. In
# small networks it is less, and depends on the order of a few sums.
MIN_RELATIVE_ERROR = 32 * 2.0**-24
# Odd, tall, wide and tiny; the first is run as a batch of two. None is the traced size.
SIZES = ((127, 193), (256, 96), (96, 320), (17, 23))
MAX_RUNS, MIN_RUNS, RUN_SECONDS = 20, 3, 2.0  # of timing at each size


class Candidate(NamedTuple):
    """What is verified.

    Attributes:
        final: the file to deliver.
        with_logits: the same network with logits as a second output; may be the same file.
        baseline: what latency is compared with, called with images (B, H, W, C).
    """

    final: Session
    with_logits: Session
    baseline: Callable[[np.ndarray], object]


@dataclass(frozen=True)
class SizeResult:
    """Result at one size.

    Attributes:
        size: (height, width) of the images.
        batch: number of images.
        agreement: share of pixels with the labels of PyTorch in float64, 0 to 1.
        difference: largest absolute difference of logits to PyTorch in float64.
        tolerance: largest difference that is allowed.
        wrong: number of pixels with another label that the tolerance does not explain: the logits of both classes are
            further apart than errors of that size could move them.
        p50_ms, p95_ms: latency of one image in the file's runtime, in milliseconds.
        other_p50_ms: median latency of the baseline, in milliseconds.
        problem: the runtime's error, if it could not run the images.
    """

    size: Size
    batch: int
    agreement: float = 0.0
    difference: float = float("inf")
    tolerance: float = 0.0
    wrong: int = 0
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    other_p50_ms: float = 0.0
    problem: str = ""

    def failures(self, exact: bool = True) -> list[str]:
        """Messages for errors and, if `exact`, for values out of tolerance."""
        place = f"at {self.size[0]}x{self.size[1]}, batch {self.batch}"
        if self.problem:
            return [f"{place}: the runtime failed: {self.problem}"]
        if not exact:
            return []
        messages = []
        if not isfinite(self.tolerance):
            messages.append(f"{place}: PyTorch's own logits are not finite")
        elif not self.difference <= self.tolerance:  # also true for NaN
            messages.append(
                f"{place}: logits differ by up to {self.difference:.2g} (tolerance {self.tolerance:.2g}, "
                f"{MAX_ERROR_RATIO} times PyTorch's rounding error)"
            )
        if self.wrong:
            messages.append(
                f"{place}: {self.wrong:,} pixels have wrong labels, which rounding does not explain "
                f"({self.agreement:.4%} are equal)"
            )
        return messages


@dataclass(frozen=True)
class Verification:
    """Results at all sizes.

    Attributes:
        title: name of the runtime.
        other: name of the baseline that latency is compared with.
        megabytes: size of the file, in 10^6 bytes.
        results: one per size.
        exact: whether the tolerances apply; int8 rounds more than they allow.
    """

    title: str
    other: str
    megabytes: float
    results: tuple[SizeResult, ...]
    exact: bool = True

    def failures(self) -> list[str]:
        """Messages for everything out of tolerance; empty for a correct file."""
        return [failure for result in self.results for failure in result.failures(self.exact)]

    def as_json(self) -> dict:
        """All results as JSON values."""
        return asdict(self) | {
            "max_error_ratio": MAX_ERROR_RATIO,
            "worst_agreement": min(result.agreement for result in self.results),
            "worst_difference": max(result.difference for result in self.results),
        }


class VerificationError(UserError):
    """An exported file is not good enough; `verification` holds the results."""

    def __init__(self, message: str, hint: str, verification: Verification):
        super().__init__(message, hint)
        self.verification = verification


def verify(
    model: Segmenter, recipe: Recipe, candidate: Candidate, sizes: Sequence[Size], image: np.ndarray | None = None
) -> Iterator[SizeResult]:
    """Compare outputs with the network's, and measure latency, at each of `sizes` (height, width).

    `model`: the network in evaluation mode, not optimized. `image`: as the network reads it, (H, W, C), resized to each
    size; without it a synthetic image is used.
    """
    exact = deepcopy(model).double()
    for index, size in enumerate(sizes):
        batch = 2 if index == 0 else 1
        images = np.stack([sample_image(size, image, seed, recipe) for seed in range(batch)])
        yield _compare(expected_outputs(model, recipe, images, exact), candidate, images)


def sample_image(
    size: Size, image: np.ndarray | None = None, seed: int = 0, recipe: Recipe | None = None
) -> np.ndarray:
    """RGB uint8 (height, width, 3): `image` resized, mirrored for odd seeds; or colored blocks with noise.

    For a `recipe` with bands: float32 (height, width, bands).
    """
    if recipe is not None and recipe.data.bands:
        return _sample_bands(size, image, seed, recipe)
    if image is not None:
        source = image[:, ::-1] if seed % 2 else image
        return np.array(Image.fromarray(source).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (max(2, size[0] // 12), max(2, size[1] // 12), 3), np.uint8)
    smooth = np.asarray(Image.fromarray(blocks).resize((size[1], size[0]), Image.Resampling.BICUBIC), np.float32)
    return (smooth + rng.normal(0, 8, smooth.shape)).clip(0, 255).astype(np.uint8)


def _sample_bands(size: Size, image: np.ndarray | None, seed: int, recipe: Recipe) -> np.ndarray:
    if image is not None:
        return np.ascontiguousarray(resize_image(image[:, ::-1] if seed % 2 else image, size))
    rng, data = np.random.default_rng(seed), recipe.data
    blocks = rng.normal(data.mean, data.std, (max(2, size[0] // 12), max(2, size[1] // 12), recipe.channels))
    noise = rng.normal(0, np.asarray(data.std) / 16, (*size, recipe.channels))
    return (resize_image(blocks.astype(np.float32), size) + noise).astype(np.float32)


@torch.inference_mode()
def network_logits(model: Segmenter, recipe: Recipe, images: np.ndarray) -> np.ndarray:
    """Logits (B, classes, H, W) of the PyTorch network for images (B, H, W, C)."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    return model(normalize_batch(pixels, recipe.data.mean, recipe.data.std)).numpy()


class Expected(NamedTuple):
    """Logits in float64 (B, classes, H, W), and the largest error that the file's logits may have."""

    logits: np.ndarray
    tolerance: float

    @classmethod
    def compute(cls, exact: Segmenter, rounded: np.ndarray, recipe: Recipe, images: np.ndarray) -> "Expected":
        """`exact`: the network in float64; `rounded`: its logits in float32."""
        logits = _exact_logits(exact, recipe, images)
        least = MIN_RELATIVE_ERROR * max(logits.max(), -logits.min())
        return cls(logits, float(MAX_ERROR_RATIO * np.maximum(_largest_difference(rounded, logits), least)))

    def wrong(self, labels: np.ndarray) -> int:
        """Number of pixels whose label would need larger errors than `tolerance`, of both classes' logits."""
        logits = np.take_along_axis(self.logits, labels[:, None].astype(np.int64), 1)[:, 0]
        return int((self.logits.max(1) - logits > 2 * self.tolerance).sum())


def expected_outputs(model: Segmenter, recipe: Recipe, images: np.ndarray, exact: Segmenter | None = None) -> Expected:
    """What a file should output for images (B, H, W, C). `exact`: the network in float64, if there is one already."""
    exact = exact or deepcopy(model).double()
    return Expected.compute(exact, network_logits(model, recipe, images), recipe, images)


@torch.inference_mode()
def _exact_logits(exact: Segmenter, recipe: Recipe, images: np.ndarray) -> np.ndarray:
    mean, std = (torch.tensor(color, dtype=torch.float64) for color in (recipe.data.mean, recipe.data.std))
    pixels = (torch.from_numpy(images).double() - mean) / std
    return exact(pixels.permute(0, 3, 1, 2)).numpy()


def _largest_difference(one: np.ndarray, other: np.ndarray) -> float:
    """Of arrays of one shape (B, classes, H, W), class by class to save memory; NaN if there is one."""
    if one.shape != other.shape:
        raise ValueError(f"its logits have the shape {one.shape}, not {other.shape}")
    return float(np.max([np.abs(one[:, index] - other[:, index]).max() for index in range(one.shape[1])]))


def _compare(expected: Expected, candidate: Candidate, images: np.ndarray) -> SizeResult:
    batch, height, width = images.shape[:3]
    right = expected.logits.argmax(1)
    try:
        labels, logits = candidate.with_logits.run(images)
        outputs = (labels, candidate.final.run(images)[0])
        for output in outputs:
            if output.shape != right.shape:
                raise ValueError(f"its labels have the shape {output.shape}, not {right.shape}")
        difference = _largest_difference(logits, expected.logits)
        wrong = max(expected.wrong(output) for output in outputs)
        p50, p95 = _latency(lambda: candidate.final.run(images[:1]))
    except Exception as error:  # each runtime raises its own exceptions
        return SizeResult((height, width), batch, problem=first_line(error)[:300])
    agreement = min(float((output == right).mean()) for output in outputs)
    baseline = _latency(lambda: candidate.baseline(images[:1]))[0]
    return SizeResult((height, width), batch, agreement, difference, expected.tolerance, wrong, p50, p95, baseline)


def _latency(call: Callable[[], object]) -> tuple[float, float]:
    """Median and 95th percentile of the milliseconds of a call, after one warm-up call."""
    call()
    milliseconds: list[float] = []
    while len(milliseconds) < MIN_RUNS or (len(milliseconds) < MAX_RUNS and sum(milliseconds) < 1000 * RUN_SECONDS):
        start = perf_counter()
        call()
        milliseconds.append(1000 * (perf_counter() - start))
    p50, p95 = np.percentile(milliseconds, [50, 95]).tolist()
    return p50, p95
