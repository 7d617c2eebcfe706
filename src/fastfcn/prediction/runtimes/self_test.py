"""The self-test of an exported file: a small image with its outputs at export, compared when the file is loaded.

Outputs differ if the file is damaged, or if a runtime computes them wrongly, of another version or on another machine.
"""

import os
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastfcn.errors import WeightsError, first_line

SIZE = (33, 47)  # (height, width) of the image: odd, and as small as every format is traced for
STEP = 8  # logits are stored at every eighth row and column: between them they are interpolated
# Other versions and machines may err more than the check at export allows, which compares on one machine.
OTHER_MACHINES = 4
OTHER_DEVICES = 256  # GPUs may round products to 10 bits (TF32) of float32's 23
WRONG_ON_OTHER_DEVICES = 0.02  # share of labels
SWITCH = "FASTFCN_SELF_TEST"  # environment variable; "off" skips all self-tests


@dataclass(frozen=True)
class SelfTest:
    """An image and what the network outputs for it.

    Attributes:
        image: (H, W, C), RGB uint8 or bands in float32.
        labels: (H, W), the expected labels.
        certain: (H, W), where no error within `tolerance` can change the label.
        logits: (classes, H / STEP, W / STEP) in float32, the expected logits at every STEP-th row and column.
        tolerance: largest error of logits on the CPU.
        wrong: share of certain labels that may differ, 0 to 1.
    """

    image: np.ndarray
    labels: np.ndarray
    certain: np.ndarray
    logits: np.ndarray
    tolerance: float
    wrong: float = 0.0

    @classmethod
    def from_logits(cls, image: np.ndarray, logits: np.ndarray, tolerance: float) -> "SelfTest":
        """`logits`: (classes, H, W), those of the network; `tolerance`: what the check at export allows."""
        tolerance *= OTHER_MACHINES
        lower, highest = np.partition(logits, -2, axis=0)[-2:] if len(logits) > 1 else (logits[0] - np.inf, logits[0])
        labels = logits.argmax(0).astype(np.uint8)
        return cls(image, labels, highest - lower > 2 * tolerance, _sampled(logits), tolerance)

    @classmethod
    def of_quantized(cls, image: np.ndarray, labels: np.ndarray, logits: np.ndarray, exact: np.ndarray) -> "SelfTest":
        """For int8, which other CPUs round otherwise: outputs may change as much as they did by quantization.

        `labels` (H, W), `logits` (classes, H, W): those of the quantized network; `exact`: logits of the network.
        """
        wrong = max(float((labels != exact.argmax(0)).mean()), WRONG_ON_OTHER_DEVICES)
        labels = labels.astype(np.uint8)
        certain = np.ones(labels.shape, bool)
        return cls(image, labels, certain, _sampled(logits), float(np.abs(logits - exact).max()), wrong)

    def problem(self, outputs: list[np.ndarray], device: str = "cpu") -> str:
        """How outputs (labels, and logits if there are any) for `image[None]` differ; empty if they are right."""
        on_cpu = device == "cpu"
        labels, logits = outputs[0], outputs[1] if len(outputs) > 1 else None
        if labels.shape != (1, *self.labels.shape):
            return f"its labels have the shape {labels.shape}, not {(1, *self.labels.shape)}"
        if logits is not None:
            sampled = _sampled(logits[0])
            if sampled.shape != self.logits.shape:
                return f"its logits have the shape {logits.shape}"
            difference = float(np.abs(sampled - self.logits).max())
            tolerance = self.tolerance * (1 if on_cpu else OTHER_DEVICES)
            if not difference <= tolerance:  # also true for NaN
                return f"logits differ by up to {difference:.2g} (tolerance {tolerance:.2g})"
        count = int((labels[0] != self.labels)[self.certain].sum())
        if count > (self.wrong if on_cpu else max(self.wrong, WRONG_ON_OTHER_DEVICES)) * self.labels.size:
            return f"{count:,} of {self.certain.sum():,} labels differ"
        return ""

    def as_json(self) -> dict[str, Any]:
        """All values as JSON values; arrays in base64."""
        arrays = {name: _packed(getattr(self, name)) for name in ("image", "labels", "certain", "logits")}
        return arrays | {"tolerance": self.tolerance, "wrong": self.wrong}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "SelfTest":
        """Raises KeyError, ValueError or TypeError for anything that `as_json` did not return."""
        arrays = [_unpacked(value[name]) for name in ("image", "labels", "certain", "logits")]
        image, labels, certain, logits = arrays
        if image.ndim != 3 or logits.ndim != 3 or not labels.shape == certain.shape == image.shape[:2]:
            raise ValueError("the arrays of the self-test have other shapes")
        return cls(image, labels, certain.astype(bool), logits, float(value["tolerance"]), float(value["wrong"]))


def run_self_test(test: SelfTest, run: Any, device: str, path: object, title: str) -> None:
    """Raise WeightsError, which names `path` and the runtime `title`, if `run` does not pass the test.

    `run`: images (B, H, W, C) to a list of outputs, on `device`. With FASTFCN_SELF_TEST=off nothing is run.
    """
    if os.environ.get(SWITCH, "").lower() == "off":
        return
    try:
        problem = test.problem(run(test.image[None]), device)
    except Exception as error:  # each runtime raises its own exceptions
        problem = f"{title} failed: {first_line(error)[:300]}"
    if problem:
        raise WeightsError(
            f"{path} does not give the results that it gave when it was exported: {problem}.",
            f"The file is damaged, or {title} computes it wrongly: export it again, or update {title}. "
            f"{SWITCH}=off loads it as it is.",
        )


def _sampled(logits: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(logits[:, ::STEP, ::STEP], np.float32)


def _packed(array: np.ndarray) -> dict[str, Any]:
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return {"dtype": array.dtype.name, "shape": array.shape, "data": b64encode(little.tobytes()).decode()}


def _unpacked(value: dict[str, Any]) -> np.ndarray:
    if value["dtype"] not in ("uint8", "float32", "bool"):
        raise ValueError(f"arrays of {value['dtype']}")
    dtype = np.dtype(value["dtype"]).newbyteorder("<")
    array = np.frombuffer(b64decode(value["data"], validate=True), dtype).reshape(value["shape"])
    return array.astype(dtype.newbyteorder("="))
