"""What `fastfcn bench` measures of one recipe, each in a fresh process: inference, and steps of training."""

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
from fastfcn.bench.record import machine_facts
from fastfcn.bench.timing import Progress, timed
from fastfcn.data.description import DatasetDescription
from fastfcn.data.opencv_resize import keep_ratio_size
from fastfcn.errors import UserError
from fastfcn.models.segmenter import Segmenter
from fastfcn.prediction.exported import ExportedPredictor
from fastfcn.prediction.load import open_model
from fastfcn.prediction.predictor import Predictor, TorchPredictor
from fastfcn.recipes.recipe import Recipe
from fastfcn.training.ema import averaged
from fastfcn.training.prepare import prepare
from fastfcn.training.train import train_step
from fastfcn.utils.machine import Machine, autocast_type

ACCELERATORS = ("auto", "cpu", "cuda", "mps")
PUBLISHED_DEVICES = 4  # GPUs that OpenMMLab and the official code trained on; a recipe's batch is that of all


@dataclass(frozen=True)
class Subject:
    """What is measured: a recipe, with the weights of a file or random ones, under the name the user gave."""

    name: str
    recipe: Recipe
    weights: Path | None = None


@dataclass(frozen=True)
class Settings:
    """How it is measured. None stands for what the recipe says, for about ten seconds of runs, for torch's threads.

    `size`: (height, width) of the image that inference sees; `batch`: images in a training step.
    """

    size: tuple[int, int] | None = None
    runs: int | None = None
    batch: int | None = None
    precision: str = "32-true"
    accelerator: str = "auto"
    threads: int | None = None
    trusted: bool = False  # a .pt2 file may run its code

    def __post_init__(self) -> None:
        autocast_type(self.precision)
        if self.accelerator not in ACCELERATORS:
            raise UserError(f"Cannot measure on {self.accelerator!r}.", f"Choose one of {', '.join(ACCELERATORS)}.")


def test_size(recipe: Recipe) -> tuple[int, int]:
    """(height, width) of a typical test image as the network sees it.

    An image in the proportions of the crop, fitted into `eval.resize`; one of `data.base_size` where images are tested
    at their own size; one window where a window slides.
    """
    tested = recipe.eval
    if tested.kind == "sliding":
        return tested.crop, tested.crop
    return recipe.data.base_size if tested.resize == "none" else keep_ratio_size(recipe.data.crop, tested.resize)


def device_batch(recipe: Recipe) -> int:
    """Images of a training step on each device: of a recipe with published figures a fourth of the batch, for they
    were trained on 4 GPUs; else all of it."""
    return max(2, recipe.optim.batch // PUBLISHED_DEVICES) if recipe.published else recipe.optim.batch


def inference_setting(subject: Subject, settings: Settings) -> dict:
    """What inference is measured at."""
    own = test_size(subject.recipe)
    return {"precision": settings.precision, "size": list(settings.size or own), "recipe_size": list(own), "batch": 1}


def training_setting(subject: Subject, settings: Settings) -> dict:
    """What a training step is measured at."""
    own = device_batch(subject.recipe)
    crop = list(subject.recipe.data.crop)
    return {"precision": settings.precision, "crop": crop, "batch": settings.batch or own, "recipe_device_batch": own}


def measure_inference(subject: Subject, settings: Settings, progress: Progress | None = None) -> dict:
    """Time, memory and arithmetic from a uint8 image to its class map, one image at a time, through Predictor."""
    _use_threads(settings)
    result, dtype = inference_setting(subject, settings), autocast_type(settings.precision)
    image = np.random.default_rng(0).integers(0, 256, (*result["size"], 3), np.uint8)
    try:
        predictor = _predictor(subject, settings)
        device = predictor.device
        result |= machine_facts(device)
        with peak_memory(device) as memory:
            timing = timed(lambda: predictor(image), device, settings.runs, progress)
    except (RuntimeError, MemoryError) as error:
        return result | out_of_memory(error)
    result |= timing.as_json(images=1) | {"peak_memory_mib": memory.mib, "memory": memory.meaning}
    return result | _arithmetic(subject, predictor.description, result, device, dtype)


def measure_training(subject: Subject, settings: Settings, progress: Progress | None = None) -> dict:
    """Time and memory of whole training steps on random images and labels, which are there already."""
    _use_threads(settings)
    result, recipe = training_setting(subject, settings), subject.recipe
    machine = Machine(settings.accelerator, workers=0, precision=settings.precision)
    fabric = machine.launch()
    network, about = _network(subject)
    result |= machine_facts(fabric.device)
    numbers = count()
    try:
        prepare(network, machine, fabric.device)  # as fastfcn.training.train does
        model, optimizer = fabric.setup(network, build.optimizer(recipe, network))
        model.mark_forward_method("forward_train")
        model.train()
        average = averaged(network, recipe.optim.ema) if recipe.optim.ema else None
        batches = map(fabric.to_device, _batches(result, len(about.classes), fabric.device))

        def step() -> None:
            train_step(model, optimizer, batches, recipe, next(numbers), fabric)
            if average:
                average.update_parameters(network)

        with peak_memory(fabric.device) as memory:
            timing = timed(step, fabric.device, settings.runs, progress)
    except (RuntimeError, MemoryError) as error:
        return result | out_of_memory(error)
    return result | timing.as_json(result["batch"]) | {"peak_memory_mib": memory.mib, "memory": memory.meaning}


def _use_threads(settings: Settings) -> None:
    if settings.threads:
        torch.set_num_threads(settings.threads)


def _predictor(subject: Subject, settings: Settings) -> Predictor:
    if subject.weights:
        model = open_model(subject.weights, settings.accelerator, settings.precision, settings.trusted)
        if isinstance(model, ExportedPredictor):
            return model
    network, about = _network(subject)
    return TorchPredictor(network, subject.recipe, about, settings.accelerator, settings.precision)


def _network(subject: Subject) -> tuple[Segmenter, DatasetDescription]:
    if subject.weights:
        held = weights.read(subject.weights)
        return weights.load_model(replace(held, recipe=subject.recipe)), held.description
    torch.manual_seed(subject.recipe.seed)
    about = build.description(subject.recipe)
    return build.network(subject.recipe, len(about.classes)), about


def _batches(setting: dict, classes: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """The same batch again and again, in the main memory as a loader would have put it there."""
    chance = torch.Generator().manual_seed(0)
    images = torch.randn(setting["batch"], 3, *setting["crop"], generator=chance)
    labels = torch.randint(classes, (setting["batch"], *setting["crop"]), generator=chance, dtype=torch.uint8)
    batch = (images.pin_memory(), labels.pin_memory()) if device.type == "cuda" else (images, labels)
    while True:
        yield batch


def _arithmetic(
    subject: Subject, about: DatasetDescription, setting: dict, device: torch.device, dtype: torch.dtype | None
) -> dict:
    """Operations and parameters of the plain network, and how much of the device's peak the measured speed is."""
    with torch.device("meta"):
        plain = build.network(subject.recipe, len(about.classes)).eval()
        flops = count_flops(plain.logits, torch.empty(1, 3, *setting["size"]))
    sizes = {name: sum(each.numel() for each in part.parameters()) for name, part in plain.named_children()}
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
    """What stands in the place of figures; raises `error` again where it is another."""
    told = str(error).splitlines()[0] if str(error) else type(error).__name__
    known = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in told for words in known):
        return {"out_of_memory": told}
    raise error
