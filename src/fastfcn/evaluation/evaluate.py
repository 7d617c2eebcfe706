"""`fastfcn evaluate`, and the one path by which scores are measured: in training, in tests, from a shell."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader

from fastfcn import build, weights
from fastfcn.data.dataset import Dataset, read_batches
from fastfcn.data.description import DataSetDescription
from fastfcn.data.resize import keep_ratio_size, resize_image, scaled_size
from fastfcn.data.transforms import normalise_batch
from fastfcn.evaluation.sliding_window import sliding_logits
from fastfcn.fast.optimize import optimize
from fastfcn.metrics import ConfusionMatrix, Scores
from fastfcn.models.segmenter import Segmenter
from fastfcn.ops.upsample import label_type, mean_softmax_labels, upsampled_strips
from fastfcn.prediction.runtimes.predictor import ExportedPredictor, is_exported, of_pixels
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.machine import Machine
from fastfcn.utils.progress import counted
from fastfcn.weights.hub import local_file

Progress = Callable[[Iterable, int, str], Iterable]


class Observer(Protocol):
    """Sees what `measure` measures while it does; shares of all classes exist for a strip of rows at a time."""

    def strip(self, index: int, top: int, labels: Tensor, shares: Tensor, label: Tensor) -> None:
        """Rows from `top` on of image `index`: predicted and true classes (rows, W), and what share of its trust the
        network puts in each class (classes, rows, W), 0-1."""

    def image(self, index: int, labels: Tensor, label: Tensor) -> None:
        """Predicted and true classes (H, W) of the whole image, after its strips."""

    def gather(self, fabric: Fabric) -> None:
        """Called once at the end, by all processes: add up what each of them has seen."""


class TestImages(torch.utils.data.Dataset):
    """A split's images resized for testing: one size, or all scales of multi-scale testing; uint8 (3, h, w)."""

    __test__ = False  # not a test case

    def __init__(self, dataset: Dataset, recipe: Recipe, tta: bool):
        self.dataset, self.recipe, self.tta = dataset, recipe, tta

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[list[Tensor], Tensor]:
        """The image in its test sizes, and its label (H, W) at the original size."""
        example = self.dataset[index]
        size = example.image.shape[:2]
        images = [resize_image(example.image, each) for each in test_sizes(self.recipe, size, self.tta)]
        return [torch.from_numpy(each.transpose(2, 0, 1)) for each in images], torch.from_numpy(example.label)


def test_sizes(recipe: Recipe, size: tuple[int, int], tta: bool) -> list[tuple[int, int]]:
    """(height, width) at which the network sees an image of `size`.

    Multi-scale testing scales the original image; single-scale testing keeps it, or fits it into `eval.resize`.
    Windows are cut from the normalised image, which is therefore left at its own size here.
    """
    tested = recipe.eval
    match tested.kind:
        case "sliding":
            return [size]
        case "whole" if tta:
            return [scaled_size(size, scale) for scale in tested.scales]
        case "whole":
            return [size if tested.resize == "none" else keep_ratio_size(size, tested.resize)]


def predict_labels(model: Segmenter, recipe: Recipe, images: list[Tensor], size: tuple[int, int], tta: bool) -> Tensor:
    """Class map (H, W) of one image given in its test sizes, at the original `size`."""
    device = next(model.parameters()).device
    batches = [normalise_batch(image.to(device)[None], recipe.data.mean, recipe.data.std) for image in images]
    match recipe.eval.kind:
        case "sliding":
            scores = _window_scores(model, recipe, batches[0], tta)
            return scores[0].argmax(0).to(label_type(scores.shape[1]))
        case "whole" if not tta:
            return model.labels(batches[0], size)[0]
        case "whole":
            return mean_softmax_labels(list(_views(model, batches, size, recipe.eval.flip)), model.align_corners)[0]


def predict_shares(
    model: Segmenter, recipe: Recipe, images: list[Tensor], size: tuple[int, int], tta: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """The class map of `predict_labels` strip by strip, with the shares that it comes from.

    Yields class indices (rows, W) and what share of its trust the network puts in each class, (classes, rows, W), 0-1:
    softmax, its mean over the views of multi-scale testing, or the normalised sum of sliding windows.
    """
    device = next(model.parameters()).device
    batches = [normalise_batch(image.to(device)[None], recipe.data.mean, recipe.data.std) for image in images]
    match recipe.eval.kind:
        case "sliding":
            sums = (_window_scores(model, recipe, batches[0], tta),)
        case "whole" if not tta:
            sizes = [(batches[0].shape[-2], batches[0].shape[-1]), size]
            for logits in upsampled_strips(model.logits(batches[0]), sizes, model.align_corners):
                yield logits[0].argmax(0).to(label_type(logits.shape[1])), logits[0].float().softmax(0)
            return
        case "whole":
            views = list(_views(model, batches, size, recipe.eval.flip))
            votes = zip(*(upsampled_strips(*view, model.align_corners) for view in views), strict=True)
            sums = (torch.stack([strip.softmax(1) for strip in strips]).sum(0) for strips in votes)
    for total in sums:
        yield total[0].argmax(0).to(label_type(total.shape[1])), (total / total.sum(1, keepdim=True))[0]


def _window_scores(model: Segmenter, recipe: Recipe, batch: Tensor, tta: bool) -> Tensor:
    """What sliding windows sum up to, (1, classes, H, W): positive, no shares of 1."""
    tested = recipe.eval
    assert tested.kind == "sliding"
    black = torch.zeros(1, 3, 1, 1, device=batch.device)
    black = normalise_batch(black, recipe.data.mean, recipe.data.std).flatten()
    scales, flip = (tested.scales, tested.flip) if tta else ((1.0,), False)
    return sliding_logits(model, batch, black, tested.base_size, tested.crop, tested.stride, scales, flip)


def _views(
    model: Segmenter, batches: list[Tensor], size: tuple[int, int], flip: bool
) -> Iterator[tuple[Tensor, list[tuple[int, int]]]]:
    """The logits of every size, and of its mirror image with `flip`, each with the sizes they go through."""
    for batch in batches:
        sizes = [(batch.shape[-2], batch.shape[-1]), size]
        yield model.logits(batch), sizes
        if flip:
            yield model.logits(batch.flip(-1)).flip(-1), sizes


@torch.inference_mode()
def measure(
    model: Segmenter, recipe: Recipe, dataset: Dataset, fabric: Fabric, tta: bool = False, workers: int = 0,
    progress: Progress | None = None, observer: Observer | None = None,
) -> Scores:  # fmt: skip
    """Scores of `model` on every image of `dataset` at its original resolution; `observer` sees more than those.

    The images are shared out over the processes of `fabric`, none twice, and the counts summed; every process gets
    the same result. The model comes back in the mode it was in.
    """
    training = model.training
    model.eval()
    matrix = ConfusionMatrix(len(dataset.description.classes), fabric.device)
    own = range(fabric.global_rank, len(dataset), fabric.world_size)
    loader = DataLoader(TestImages(dataset, recipe, tta), batch_size=None, sampler=own, num_workers=workers)
    examples = read_batches(loader)
    shown = progress(examples, len(own), "Evaluating") if progress else examples
    for index, (images, label) in zip(own, shown, strict=True):
        size = (label.shape[0], label.shape[1])
        with fabric.autocast():
            if observer is None:
                labels = predict_labels(model, recipe, images, size, tta)
            else:
                labels = _observed(predict_shares(model, recipe, images, size, tta), index, label, observer)
        matrix.update(labels, label.to(labels.device))
    counts = torch.as_tensor(fabric.all_reduce(matrix.counts, reduce_op="sum"))
    if observer is not None:
        observer.gather(fabric)
    model.train(training)
    return Scores(counts.cpu().numpy())


def _observed(strips: Iterator[tuple[Tensor, Tensor]], index: int, label: Tensor, observer: Observer) -> Tensor:
    """The class map (H, W) that `strips` make up, after `observer` has seen them."""
    maps: list[Tensor] = []
    top = 0
    for labels, shares in strips:
        observer.strip(index, top, labels, shares, label[top : top + len(labels)])
        top += len(labels)
        maps.append(labels)
    whole = torch.cat(maps)
    observer.image(index, whole, label)
    return whole


@dataclass(frozen=True)
class Trial:
    """A network on a device, and the split that it is to be tried on."""

    model: Segmenter
    recipe: Recipe
    dataset: Dataset
    fabric: Fabric


def load_trial(
    path: str | Path, data: str | Path, machine: Machine, split: str | None = None, changes: Sequence[str] = (),
    fabric: Fabric | None = None, trusted: bool = False,
) -> Trial:  # fmt: skip
    """A weights or exported file, or `hf://USER/NAME`, and a split of the data under `data`, by default its recipe's.

    `changes` override the recipe, such as "eval.flip=false". `fabric`: where there is one already. `trusted`: a .pt2
    file may run its code.
    """
    path = local_file(path)
    held = ExportedPredictor(path, trusted=trusted) if is_exported(path) else weights.read(path)
    recipe = held.recipe.override(changes)
    dataset = build.dataset(recipe, held.description, data, split or recipe.data.val_split, train=False)
    fabric = fabric or machine.launch()
    if isinstance(held, ExportedPredictor):
        return Trial(fabric.to_device(held.network), of_pixels(recipe, path), dataset, fabric)  # type: ignore
    model: Segmenter = fabric.to_device(weights.load_model(held).to(memory_format=torch.channels_last))  # type: ignore
    if machine.precision == "32-true":  # the kernels know no other
        model = optimize(model, in_place=True)
    return Trial(model, recipe, dataset, fabric)


def evaluate(
    path: str | Path, data: str | Path, machine: Machine, split: str | None = None, tta: bool = False,
    changes: Sequence[str] = (), trusted: bool = False,
) -> tuple[Scores, DataSetDescription, str]:  # fmt: skip
    """Scores of a weights or exported file on a split, found by `load_trial`. Returns scores, data set and split."""
    trial = load_trial(path, data, machine, split, changes, trusted=trusted)
    progress = counted if trial.fabric.is_global_zero else None
    scores = measure(trial.model, trial.recipe, trial.dataset, trial.fabric, tta, machine.readers, progress)
    return scores, trial.dataset.description, trial.dataset.split
