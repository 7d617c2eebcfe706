"""Evaluation on a labeled split: the one loop behind `fastfcn evaluate`, validation in training, and the reports."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader

from fastfcn import build, weights
from fastfcn.data.dataset import Dataset, read_batches, worker_context
from fastfcn.data.decoding import any_number_of_pixels
from fastfcn.evaluation.scores import EvaluationResult
from fastfcn.fast.cpu_bf16 import fastest_precision, has_bf16
from fastfcn.fast.optimize import optimize
from fastfcn.metrics import ConfusionMatrix, Scores
from fastfcn.models.segmenter import Segmenter
from fastfcn.prediction.exported import ExportedPredictor
from fastfcn.prediction.inference import predict_labels, predict_probabilities, resized
from fastfcn.prediction.load import open_model
from fastfcn.prediction.predictor import find_device
from fastfcn.prediction.tiles import prepare_tiles
from fastfcn.recipes.inference import Context, InferenceSettings, SizeLike, inference_settings
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.machine import BF16, FULL_PRECISION, Machine, autocast_type
from fastfcn.utils.modules import to_channels_last
from fastfcn.utils.progress import with_progress
from fastfcn.weights.locate import local_file

Progress = Callable[[Iterable, int, str], Iterable]  # (items, total, description) -> the items, under a progress bar


def evaluate(
    path: str | Path, data: str | Path, machine: Machine, split: str | None = None, tta: bool = False,
    overrides: Sequence[str] = (), trusted: bool = False, size: SizeLike | None = None, window: SizeLike | None = None,
    overlap: float | None = None, tile: int | None = None, context: Context = "window",
) -> EvaluationResult:  # fmt: skip
    """Evaluate a weights file or an exported file on a split; arguments as for `load_setup`.

    `tta`: multi-scale and flip testing, with the scales of the recipe's `eval`.
    """
    setup = load_setup(path, data, machine, split, overrides, None, trusted, size, window, overlap, tile, context)
    progress = with_progress if setup.fabric.is_global_zero else None
    settings = setup.inference.with_tta(tta)
    with any_number_of_pixels() if tile else nullcontext():
        scores = measure(setup.model, settings, setup.dataset, setup.fabric, machine.dataloader_workers, progress)
    return EvaluationResult(scores, setup.dataset.description, setup.dataset.split)


@dataclass(frozen=True)
class EvaluationSetup:
    """A network on its device, and the split to evaluate it on; `inference`: its settings at a single scale."""

    model: Segmenter
    recipe: Recipe
    inference: InferenceSettings
    dataset: Dataset
    fabric: Fabric


def load_setup(
    path: str | Path, data: str | Path, machine: Machine, split: str | None = None, overrides: Sequence[str] = (),
    fabric: Fabric | None = None, trusted: bool = False, size: SizeLike | None = None, window: SizeLike | None = None,
    overlap: float | None = None, tile: int | None = None, context: Context = "window",
) -> EvaluationSetup:  # fmt: skip
    """Load what an evaluation needs: the network in its fast form, the recipe and the split.

    `path`: a weights file, an exported file or `hf://USER/NAME`; `data`: the folder of the dataset; `split`: default
    the recipe's `data.val_split`; `overrides`: changes to the recipe, such as "eval.flip=false"; `fabric`: an already
    launched one, instead of `machine.launch()`; `trusted`: whether a .pt2 file may run the native code inside;
    `size` and all after it: changes to the recipe's `eval`, see `inference_settings`.
    Raises WeightsError, DataError or RecipeError for files and overrides that cannot be used.
    """
    loaded = open_model(local_file(path), precision=machine.precision, trusted=trusted, tile=tile, context=context)
    recipe = loaded.recipe.override(overrides)
    inference = inference_settings(recipe, size, False, window, overlap, tile, context)
    inference = prepare_tiles(inference, partial(build.network, recipe, len(loaded.description.classes)))
    dataset = build.dataset(recipe, loaded.description, data, split or recipe.data.val_split, train=False)
    if isinstance(loaded, ExportedPredictor):
        fabric = fabric or machine.launch()
        exported: Segmenter = fabric.to_device(loaded.network)  # type: ignore[assignment]
        return EvaluationSetup(exported, recipe, inference.unnormalized(), dataset, fabric)
    network = weights.load_model(loaded)
    to_channels_last(network)
    if fabric is None:
        machine = replace(machine, precision=_precision(machine, network, recipe.channels))
        fabric = machine.launch()
    model: Segmenter = fabric.to_device(network)  # type: ignore[assignment]
    if machine.precision == FULL_PRECISION or fabric.device.type == "cuda":  # the CPU kernels compute in float32 only
        fuse = not inference.whole_in_tiles
        model = optimize(model, in_place=True, autocast=autocast_type(machine.precision), fuse=fuse)
    return EvaluationSetup(model, recipe, inference, dataset, fabric)


def _precision(machine: Machine, network: Segmenter, channels: int) -> str:
    """That of `machine`, or float32 if it is faster than bf16 on this CPU."""
    if machine.precision != BF16 or find_device(machine.accelerator).type != "cpu":
        return machine.precision
    full = optimize(network) if has_bf16() else network
    return fastest_precision(machine.precision, channels, full, network.eval())


class TestImages(torch.utils.data.Dataset):
    """The images of a split at the input sizes of `settings`, uint8 (1, 3, h, w), with their labels."""

    __test__ = False  # not a test case

    def __init__(self, dataset: Dataset, settings: InferenceSettings):
        self.dataset, self.settings = dataset, settings

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[list[Tensor], Tensor]:
        """The image, once for each scale, and its label (H, W) at the original size."""
        example = self.dataset[index]
        return [image[None] for image in resized(self.settings, example.image)], torch.from_numpy(example.label)


class Observer(Protocol):
    """Sees every prediction of `measure`, strip by strip: full-size probabilities of all classes are never stored."""

    def strip(self, index: int, top: int, labels: Tensor, probabilities: Tensor, label: Tensor) -> None:
        """Rows of image `index` from row `top` on: predicted and true classes (rows, W), and the probability of every
        class (classes, rows, W), 0-1."""

    def image(self, index: int, labels: Tensor, label: Tensor) -> None:
        """Predicted and true classes (H, W) of the whole image, after its strips."""

    def gather(self, fabric: Fabric) -> None:
        """Called once at the end, in all processes: sum the results over the processes."""


@torch.inference_mode()
def measure(
    model: Segmenter, settings: InferenceSettings, dataset: Dataset, fabric: Fabric, workers: int = 0,
    progress: Progress | None = None, observer: Observer | None = None,
) -> Scores:  # fmt: skip
    """Scores of `model` on every image of `dataset` at its original resolution.

    The images are divided among the processes of `fabric`, without repetition, and the counts summed: every process
    returns the same scores. `observer` also gets class probabilities. The mode (train or eval) of the model is restored
    at the end.
    """
    training = model.training
    model.eval()
    matrix = ConfusionMatrix(len(dataset.description.classes), fabric.device)
    indices = range(fabric.global_rank, len(dataset), fabric.world_size)
    on_gpu = fabric.device.type == "cuda"
    loader = DataLoader(
        TestImages(dataset, settings), batch_size=None, sampler=indices, num_workers=workers, pin_memory=on_gpu,
        multiprocessing_context=worker_context(dataset, workers),
    )  # fmt: skip
    examples = read_batches(loader)
    if progress:
        examples = progress(examples, len(indices), "Evaluating")
    for index, (images, label) in zip(indices, examples, strict=True):
        size = (label.shape[0], label.shape[1])
        with fabric.autocast():
            if observer is None:
                labels = predict_labels(model, settings, images, size)[0]
            else:
                labels = _observed(predict_probabilities(model, settings, images, size), index, label, observer)
        matrix.update(labels, label.to(labels.device, non_blocking=on_gpu))
    counts = torch.as_tensor(fabric.all_reduce(matrix.counts, reduce_op="sum"))
    if observer is not None:
        observer.gather(fabric)
    model.train(training)
    return Scores(counts.cpu().numpy())


def _observed(strips: Iterator[tuple[Tensor, Tensor]], index: int, label: Tensor, observer: Observer) -> Tensor:
    """Show each strip to `observer`; returns the segmentation map (H, W) of the whole image."""
    rows: list[Tensor] = []
    top = 0
    for (labels,), (probabilities,) in strips:
        observer.strip(index, top, labels, probabilities, label[top : top + len(labels)])
        top += len(labels)
        rows.append(labels)
    labels = torch.cat(rows)
    observer.image(index, labels, label)
    return labels
