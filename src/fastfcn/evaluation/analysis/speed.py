"""Prediction latency on the analyzed split, and memory of the process."""

from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch

from fastfcn.evaluation.evaluate import EvaluationSetup, TestImages
from fastfcn.prediction.inference import predict_labels
from fastfcn.utils.machine import process_memory

RUNS, SECONDS = 20, 2.0  # upper limits of a measurement


@dataclass(frozen=True)
class Speed:
    """Median latency in `milliseconds` of `runs` predictions, from an image in memory to its labels, after a warm-up.

    `size`: (height, width) of the network's input; `memory_mib`: None if the system does not report it; `memory`: what
    was measured.
    """

    milliseconds: float
    runs: int
    size: tuple[int, int]
    device: str
    threads: int
    memory_mib: float | None
    memory: str


@torch.inference_mode()
def measure_speed(setup: EvaluationSetup) -> Speed:
    """Time single-scale predictions of the split's first image, one at a time."""
    images, label = TestImages(setup.dataset, setup.inference)[0]
    device = setup.fabric.device
    times: list[float] = []
    started = perf_counter()
    while len(times) < 2 or (len(times) <= RUNS and perf_counter() - started < SECONDS):
        start = perf_counter()
        with setup.fabric.autocast():
            labels = predict_labels(setup.model, setup.inference, images, (label.shape[0], label.shape[1]))
        labels.cpu()  # waits for the device
        times.append(1000 * (perf_counter() - start))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    size = (images[0].shape[-2], images[0].shape[-1])
    return Speed(median(times[1:]), len(times) - 1, size, name, torch.get_num_threads(), *process_memory(device))
