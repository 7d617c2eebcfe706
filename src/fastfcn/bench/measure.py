"""Measurements of one network for `fastfcn bench`, each in a fresh process: inference, and training steps."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fastfcn import build, weights
from fastfcn.bench.flops import count_flops, device_peaks
from fastfcn.bench.memory import peak_memory
from fastfcn.bench.record import machine_info
from fastfcn.bench.timing import Progress, time_calls
from fastfcn.data.description import DatasetDescription
from fastfcn.data.opencv_resize import keep_ratio_size
from fastfcn.errors import UserError
from fastfcn.models.segmenter import Segmenter
from fastfcn.prediction.exported import ExportedPredictor
from fastfcn.prediction.load import open_model
from fastfcn.prediction.predictor import Predictor, TorchPredictor
from fastfcn.recipes.inference import OWN_SIZE, inference_settings
from fastfcn.recipes.recipe import Recipe
from fastfcn.training.ema import MovingAverage
from fastfcn.training.prepare import fused_kernels, prepare
from fastfcn.training.train import train_step
from fastfcn.utils.machine import Machine, autocast_type, precision_name
from fastfcn.utils.sizes import Size

ACCELERATORS = ("auto", "cpu", "cuda", "mps")
PUBLISHED_DEVICES = 4  # number of GPUs OpenMMLab and the official code trained on; a recipe's batch is the total


@dataclass(frozen=True)
class Subject:
    """The network to measure: a recipe with random weights or those of a file, and the name the user gave."""

    name: str
    recipe: Recipe
    weights: Path | None = None


@dataclass(frozen=True)
class Settings:
    """How to measure. None means the recipe's value, as many runs as fit in ten seconds, or PyTorch's default threads.

    `size`: (height, width) of the image for inference; `batch`: images per training step.
    """

    size: tuple[int, int] | None = None
    runs: int | None = None
    batch: int | None = None
    precision: str = "32-true"
    accelerator: str = "auto"
    threads: int | None = None
    trusted: bool = False  # allow .pt2 files, which can run code

    def __post_init__(self) -> None:
        object.__setattr__(self, "precision", precision_name(self.precision))
        if self.accelerator not in ACCELERATORS:
            raise UserError(f"Cannot measure on {self.accelerator!r}.", f"Choose one of {', '.join(ACCELERATORS)}.")


def test_size(recipe: Recipe) -> tuple[int, int]:
    """(height, width) of a typical test image at the network's input.

    With a sliding window: one window. Else an image with the aspect ratio of the crop, resized as `eval.resize`
    specifies, or `data.base_size` if test images are not resized.
    """
    settings = recipe.eval
    if settings.kind == "sliding":
        return settings.crop, settings.crop
    return recipe.data.base_size if settings.resize == "none" else keep_ratio_size(recipe.data.crop, settings.resize)


def device_batch(recipe: Recipe) -> int:
    """Images per training step and device: a quarter of a published recipe's batch (4 GPUs), else the whole."""
    return max(2, recipe.optim.batch // PUBLISHED_DEVICES) if recipe.published else recipe.optim.batch


def inference_setting(subject: Subject, settings: Settings) -> dict:
    """Precision, image size and batch of an inference measurement."""
    default = test_size(subject.recipe)
    return {
        "precision": settings.precision,
        "size": list(settings.size or default),
        "recipe_size": list(default),
        "batch": 1,
    }


def training_setting(subject: Subject, settings: Settings) -> dict:
    """Precision, crop and batch of a training measurement."""
    default = device_batch(subject.recipe)
    crop = list(subject.recipe.data.crop)
    return {
        "precision": settings.precision,
        "crop": crop,
        "batch": settings.batch or default,
        "recipe_device_batch": default,
    }


def measure_inference(subject: Subject, settings: Settings, progress: Progress | None = None) -> dict:
    """Time, memory and FLOPs from a uint8 image to its segmentation map, one image at a time."""
    _use_threads(settings)
    result = inference_setting(subject, settings)
    image = random_image(subject.recipe, result["size"])
    try:
        predictor = _predictor(subject, settings)
        device = predictor.device
        result |= machine_info(device) | {"precision": predictor.precision}
        with peak_memory(device) as memory:
            timing = time_calls(lambda: predictor(image), device, settings.runs, progress)
    except (RuntimeError, MemoryError) as error:
        return result | out_of_memory(error)
    result |= timing.as_json(images=1) | {"peak_memory_mib": memory.mib, "memory": memory.meaning}
    return result | _flops(subject, predictor.description, result, device, autocast_type(predictor.precision))


def measure_training(subject: Subject, settings: Settings, progress: Progress | None = None) -> dict:
    """Time and memory of complete training steps on random images and labels, without loading them."""
    _use_threads(settings)
    result, recipe = training_setting(subject, settings), build.with_steps(subject.recipe, images=10_000)
    machine = Machine(settings.accelerator, workers=0, precision=settings.precision)
    fabric = machine.launch()
    network, description = _network(subject)
    result |= machine_info(fabric.device)
    numbers = count()
    try:
        prepare(network, machine, fabric.device)  # as fastfcn.training.train does
        model, optimizer = fabric.setup(
            network, build.optimizer(recipe, network, fused_kernels(machine, fabric.device))
        )
        model.mark_forward_method("forward_train")
        model.train()
        average = MovingAverage(network, recipe.optim.ema) if recipe.optim.ema else None
        batches = map(fabric.to_device, _batches(result, recipe.channels, len(description.classes), fabric.device))

        def step() -> None:
            train_step(model, optimizer, batches, recipe, next(numbers), fabric)
            if average:
                average.update_parameters(network)

        with peak_memory(fabric.device) as memory:
            timing = time_calls(step, fabric.device, settings.runs, progress)
    except (RuntimeError, MemoryError) as error:
        return result | out_of_memory(error)
    return result | timing.as_json(result["batch"]) | {"peak_memory_mib": memory.mib, "memory": memory.meaning}


def random_image(recipe: Recipe, size: Size) -> np.ndarray:
    """An image of random values for the network of a recipe, always the same."""
    rng, data = np.random.default_rng(0), recipe.data
    if data.bands:
        return rng.normal(data.mean, data.std, (*size, recipe.channels)).astype(np.float32)
    return rng.integers(0, 256, (*size, 3), np.uint8)


def _use_threads(settings: Settings) -> None:
    if settings.threads:
        torch.set_num_threads(settings.threads)


def _predictor(subject: Subject, settings: Settings) -> Predictor:
    if subject.weights:
        model = open_model(subject.weights, settings.accelerator, settings.precision, settings.trusted, OWN_SIZE)
        if isinstance(model, ExportedPredictor):
            return model
    return full_size_predictor(*_network(subject), subject.recipe, settings)


def full_size_predictor(
    network: Segmenter, description: DatasetDescription, recipe: Recipe, settings: Settings
) -> TorchPredictor:
    """A predictor that processes images at their own size, whatever the recipe's `eval.resize` says."""
    inference = inference_settings(recipe, OWN_SIZE)
    return TorchPredictor(network, recipe, description, settings.accelerator, settings.precision, inference)


def _network(subject: Subject) -> tuple[Segmenter, DatasetDescription]:
    if subject.weights:
        checkpoint = weights.read(subject.weights)
        return weights.load_model(replace(checkpoint, recipe=subject.recipe)), checkpoint.description
    torch.manual_seed(subject.recipe.seed)
    description = build.description(subject.recipe)
    return build.network(subject.recipe, len(description.classes)), description


def _batches(setting: dict, channels: int, classes: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """The same batch forever, in main memory as a dataloader returns it (pinned for a GPU)."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(setting["batch"], channels, *setting["crop"], generator=rng)
    labels = torch.randint(classes, (setting["batch"], *setting["crop"]), generator=rng, dtype=torch.uint8)
    batch = (images.pin_memory(), labels.pin_memory()) if device.type == "cuda" else (images, labels)
    while True:
        yield batch


def _flops(
    subject: Subject, description: DatasetDescription, setting: dict, device: torch.device, dtype: torch.dtype | None
) -> dict:
    """FLOPs and parameters of the plain network, and the measured speed as a share of the device's peak."""
    with torch.device("meta"):
        plain = build.network(subject.recipe, len(description.classes)).eval()
        flops = count_flops(plain.logits, torch.empty(1, subject.recipe.channels, *setting["size"]))
    sizes = {name: sum(parameter.numel() for parameter in part.parameters()) for name, part in plain.named_children()}
    peaks, used = device_peaks(device, dtype)
    return {
        "gflops": flops / 1e9,
        "parameters": sum(sizes.values()) - sizes.get("auxiliary", 0),
        "parameters_auxiliary": sizes.get("auxiliary", 0),
        "peak_gflops_per_second": {name: peak / 1e9 for name, peak in peaks.items()},
        "share_of_peak": flops * setting["images_per_second"] / peaks[used],
        "share_is_of": used,
    }


def out_of_memory(error: Exception) -> dict:
    """The result of a measurement that ran out of memory; raises `error` if it is another error."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    messages = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(message in reason for message in messages):
        return {"out_of_memory": reason}
    raise error
