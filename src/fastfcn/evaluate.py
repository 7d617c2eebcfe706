"""`fastfcn evaluate`, and the one path by which scores are measured: in training, in tests, from a shell."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from lightning.fabric import Fabric
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader

from fastfcn import build, weights
from fastfcn.data.dataset import Dataset, read_batches
from fastfcn.data.description import DataSetDescription
from fastfcn.data.resize import keep_ratio_size, resize_image, scaled_size
from fastfcn.data.transforms import normalise_batch
from fastfcn.machine import Machine
from fastfcn.metrics import ConfusionMatrix, Scores
from fastfcn.models.optimize import optimize
from fastfcn.models.segmenter import Segmenter
from fastfcn.ops.upsample import label_type, mean_softmax_labels
from fastfcn.progress import counted
from fastfcn.recipe import Recipe
from fastfcn.sliding import sliding_scores

Progress = Callable[[Iterable, int, str], Iterable]


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
    tested = recipe.eval
    match tested.kind:
        case "sliding":
            black = normalise_batch(torch.zeros(1, 3, 1, 1, device=device), recipe.data.mean, recipe.data.std).flatten()
            scales, flip = (tested.scales, tested.flip) if tta else ((1.0,), False)
            scores = sliding_scores(
                model, batches[0], black, tested.base_size, tested.crop, tested.stride, scales, flip
            )
            return scores[0].argmax(0).to(label_type(scores.shape[1]))
        case "whole" if not tta:
            return model.labels(batches[0], size)[0]
        case "whole":
            return mean_softmax_labels(list(_views(model, batches, size, tested.flip)), model.align_corners)[0]


def _views(
    model: Segmenter, batches: list[Tensor], size: tuple[int, int], flip: bool
) -> Iterator[tuple[Tensor, list[tuple[int, int]]]]:
    """The scores of every size, and of its mirror image with `flip`, each with the sizes they go through."""
    for batch in batches:
        sizes = [(batch.shape[-2], batch.shape[-1]), size]
        yield model.scores(batch), sizes
        if flip:
            yield model.scores(batch.flip(-1)).flip(-1), sizes


@torch.inference_mode()
def measure(
    model: Segmenter, recipe: Recipe, dataset: Dataset, fabric: Fabric, tta: bool = False, workers: int = 0,
    progress: Progress | None = None,
) -> Scores:  # fmt: skip
    """Scores of `model` on every image of `dataset` at its original resolution.

    The images are shared out over the processes of `fabric`, none twice, and the counts summed; every process gets
    the same result. The model comes back in the mode it was in.
    """
    training = model.training
    model.eval()
    matrix = ConfusionMatrix(len(dataset.description.classes), fabric.device)
    own = range(fabric.global_rank, len(dataset), fabric.world_size)
    loader = DataLoader(TestImages(dataset, recipe, tta), batch_size=None, sampler=own, num_workers=workers)
    examples = read_batches(loader)
    for images, label in progress(examples, len(own), "Evaluating") if progress else examples:
        with fabric.autocast():
            labels = predict_labels(model, recipe, images, (label.shape[0], label.shape[1]), tta)
        matrix.update(labels, label.to(labels.device))
    counts = torch.as_tensor(fabric.all_reduce(matrix.counts, reduce_op="sum"))
    model.train(training)
    return Scores(counts.cpu().numpy())


def evaluate(
    path: str | Path, data: str | Path, machine: Machine, split: str | None = None, tta: bool = False,
    changes: Sequence[str] = (),
) -> tuple[Scores, DataSetDescription, str]:  # fmt: skip
    """Scores of a weights file on a split of the data under `data`, by default its recipe's val split.

    `changes` override the recipe, such as "eval.flip=false". Returns scores, data set and split.
    """
    held = weights.read(path)
    recipe = held.recipe.override(changes)
    split = split or recipe.data.val_split
    dataset = build.dataset(recipe, held.description, data, split, train=False)
    fabric = machine.launch()
    model: Segmenter = fabric.to_device(weights.load_model(held).to(memory_format=torch.channels_last))  # type: ignore
    if machine.precision == "32-true":  # the kernels know no other
        model = optimize(model, in_place=True)
    progress = counted if fabric.is_global_zero else None
    scores = measure(model, recipe, dataset, fabric, tta, machine.readers, progress)  # type: ignore[arg-type]
    return scores, held.description, split


def as_json(scores: Scores, about: DataSetDescription) -> dict:
    """Scores as JSON: `miou`, `mean_accuracy`, `pixel_accuracy` (0-100), and `classes` by name; nan becomes null.

    `final_score` (0-1) is the mean of pixel accuracy and mIoU, by which the scene parsing challenge on ADE20K ranks;
    0.5584 of the FastFCN paper (arXiv:1903.11816) is one, on the challenge's test set.
    """
    columns = zip(about.classes, scores.iou, scores.accuracy, scores.pixels, strict=True)
    return {
        "miou": _number(scores.miou),
        "mean_accuracy": _number(scores.mean_accuracy),
        "pixel_accuracy": _number(scores.pixel_accuracy),
        "final_score": _number((scores.pixel_accuracy + scores.miou) / 200),
        "classes": {
            each.name: {"iou": _number(iou), "accuracy": _number(accuracy), "pixels": int(pixels)}
            for each, iou, accuracy, pixels in columns
        },
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 4)


def score_table(scores: Scores, about: DataSetDescription, split: str) -> Table:
    """Per-class table with a bar to look at; a class that the split does not hold says so instead of nan."""
    table = Table(title=f"{about.title}: {split}", caption=summary(scores), title_justify="left")
    for name, side in (
        ("class", "left"),
        ("IoU", "right"),
        ("", "left"),
        ("accuracy", "right"),
        ("share", "right"),
    ):
        table.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
    total = max(int(scores.pixels.sum()), 1)
    for index, each in enumerate(about.classes):
        swatch = "[rgb({},{},{})]■[/] ".format(*each.color)
        iou, accuracy, pixels = scores.iou[index], scores.accuracy[index], scores.pixels[index]
        if not pixels:
            wrong = "" if np.isnan(iou) else ", but predicted"
            table.add_row(swatch + each.name, "", f"[dim]0 pixels in {split}{wrong}[/]", "", "")
            continue
        bar = "█" * round(iou / 5)
        table.add_row(swatch + each.name, f"{iou:.2f}", f"[green]{bar}[/]", f"{accuracy:.2f}", f"{pixels / total:.2%}")
    return table


def summary(scores: Scores) -> str:
    """The three figures in a line, in percent."""
    return (
        f"mIoU {scores.miou:.2f}   mean accuracy {scores.mean_accuracy:.2f}   "
        f"pixel accuracy {scores.pixel_accuracy:.2f}"
    )
