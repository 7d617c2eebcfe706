"""The proof: an exported file beside the network it was made of, in its own runtime, at sizes that were not traced."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from fastfcn.data.transforms import normalise_batch
from fastfcn.errors import UserError
from fastfcn.models.segmenter import Segmenter
from fastfcn.prediction.runtimes.formats import Session
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.types import Size

LEAST_AGREEMENT = 0.9999  # of the pixels of each class map
MOST_DIFFERENCE = 2e-3  # of logits, whose standard deviation is about 3 in a trained network
# Odd, tall, wide and tiny; the first goes in twice at once. None is of the size that is traced.
SIZES = ((127, 193), (256, 96), (96, 320), (17, 23))
MOST_RUNS, LEAST_RUNS, RUN_SECONDS = 20, 3, 2.0  # of timing, at each size


class Trial(NamedTuple):
    """What is on trial: `final` is the file that is asked for, `both` one of the same network with logits too, and
    `other` what its speed is compared with: RGB uint8 images (B, H, W, 3) to class maps."""

    final: Session
    both: Session
    other: Callable[[np.ndarray], object]


@dataclass(frozen=True)
class SizeResult:
    """At `size` (height, width): the share of equal pixels in the class maps 0-1, the largest difference of logits,
    milliseconds of one image in the file's runtime and elsewhere; `problem` where it could not be run at all."""

    size: Size
    batch: int
    agreement: float = 0.0
    difference: float = float("inf")
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    other_p50_ms: float = 0.0
    problem: str = ""

    def failures(self, exact: bool = True) -> list[str]:
        """What is out of tolerance, in words; unless `exact`, only what cannot be run."""
        where = f"at {self.size[0]}x{self.size[1]}, batch {self.batch}"
        if self.problem:
            return [f"{where}: its runtime refuses it: {self.problem}"]
        found: list[str] = []
        if not exact:
            return found
        if not self.agreement >= LEAST_AGREEMENT:
            found.append(f"{where}: class maps agree on {self.agreement:.4%} of the pixels, not {LEAST_AGREEMENT:.2%}")
        if not self.difference <= MOST_DIFFERENCE:
            found.append(f"{where}: logits differ by up to {self.difference:.2g}, not {MOST_DIFFERENCE:.0e}")
        return found


@dataclass(frozen=True)
class Proof:
    """What was seen at each size; `title` names the runtime, `other` what its speed is compared with, and `exact`
    says whether the tolerances hold for it: int8 rounds more than they allow."""

    title: str
    other: str
    megabytes: float
    results: tuple[SizeResult, ...]
    exact: bool = True

    def failures(self) -> list[str]:
        """What is out of tolerance, in words; nothing where the file is right."""
        return [failure for result in self.results for failure in result.failures(self.exact)]

    def as_json(self) -> dict:
        """For a file of results."""
        return asdict(self) | {
            "least_agreement": LEAST_AGREEMENT,
            "most_difference": MOST_DIFFERENCE,
            "worst_agreement": min(each.agreement for each in self.results),
            "worst_difference": max(each.difference for each in self.results),
        }


class ProofError(UserError):
    """An exported file is not what it should be; `proof` is what was seen."""

    def __init__(self, message: str, hint: str, proof: Proof):
        super().__init__(message, hint)
        self.proof = proof


def prove(
    model: Segmenter, recipe: Recipe, trial: Trial, sizes: Sequence[Size], photograph: np.ndarray | None = None
) -> Iterator[SizeResult]:
    """Compare at each of `sizes`, and measure the time.

    `model`: the plain network, in evaluation mode. `photograph` (H, W, 3), resized, is what both see; else a drawing.
    """
    for index, size in enumerate(sizes):
        batch = 2 if index == 0 else 1
        images = np.stack([picture(size, photograph, seed) for seed in range(batch)])
        yield _compare(model, recipe, trial, images)


def picture(size: Size, photograph: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """RGB uint8 (height, width, 3): the photograph, mirrored for odd seeds, or coarse blocks in colours with noise."""
    chance = np.random.default_rng(seed)
    if photograph is not None:
        source = photograph[:, ::-1] if seed % 2 else photograph
        return np.array(Image.fromarray(source).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    blocks = chance.integers(0, 256, (max(2, size[0] // 12), max(2, size[1] // 12), 3), np.uint8)
    smooth = np.asarray(Image.fromarray(blocks).resize((size[1], size[0]), Image.Resampling.BICUBIC), np.float32)
    return (smooth + chance.normal(0, 8, smooth.shape)).clip(0, 255).astype(np.uint8)


@torch.inference_mode()
def expected(model: Segmenter, recipe: Recipe, images: np.ndarray) -> np.ndarray:
    """Logits (B, classes, H, W) of the network itself."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    return model(normalise_batch(pixels, recipe.data.mean, recipe.data.std)).numpy()


def _compare(model: Segmenter, recipe: Recipe, trial: Trial, images: np.ndarray) -> SizeResult:
    batch, height, width = images.shape[:3]
    logits = expected(model, recipe, images)
    labels = logits.argmax(1)
    try:
        found, found_scores = trial.both.run(images)
        final = trial.final.run(images)[0]
        wrong = next((each for each in (found, final) if each.shape != labels.shape), None)
        if wrong is not None:
            raise ValueError(f"its class maps are of {wrong.shape}, not {labels.shape}")
        difference = float(np.abs(found_scores - logits).max())
        p50, p95 = _times(lambda: trial.final.run(images[:1]))
    except Exception as error:  # each runtime has its own kinds
        return SizeResult((height, width), batch, problem=_first_line(error))
    agreement = min(float((each == labels).mean()) for each in (found, final))
    other = _times(lambda: trial.other(images[:1]))[0]
    return SizeResult((height, width), batch, agreement, difference, p50, p95, other)


def _times(call: Callable[[], object]) -> tuple[float, float]:
    """Median and 95th percentile of the milliseconds of a call, after one that does not count."""
    call()
    milliseconds: list[float] = []
    while len(milliseconds) < LEAST_RUNS or (len(milliseconds) < MOST_RUNS and sum(milliseconds) < 1000 * RUN_SECONDS):
        start = perf_counter()
        call()
        milliseconds.append(1000 * (perf_counter() - start))
    p50, p95 = np.percentile(milliseconds, [50, 95]).tolist()
    return p50, p95


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
