"""Test-time inference on one image: single-scale, multi-scale and flip testing, and sliding windows."""

from collections.abc import Iterator

import torch
from torch import Tensor

from fastfcn.data.dataset import Dataset
from fastfcn.data.opencv_resize import keep_ratio_size, resize_image, scaled_size
from fastfcn.data.transforms import normalize_batch
from fastfcn.evaluation.sliding_window import sliding_window_votes
from fastfcn.models.segmenter import Segmenter
from fastfcn.ops.upsample import label_type, mean_softmax_labels, upsampled_strips
from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.sizes import Size


class TestImages(torch.utils.data.Dataset):
    """The images of a split at their test sizes, uint8 (3, h, w): one size, or all scales of multi-scale testing."""

    __test__ = False  # not a test case

    def __init__(self, dataset: Dataset, recipe: Recipe, tta: bool):
        self.dataset, self.recipe, self.tta = dataset, recipe, tta

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[list[Tensor], Tensor]:
        """The image at its test sizes, and its label (H, W) at the original size."""
        example = self.dataset[index]
        sizes = test_sizes(self.recipe, example.image.shape[:2], self.tta)
        images = [resize_image(example.image, size) for size in sizes]
        return [torch.from_numpy(image.transpose(2, 0, 1)) for image in images], torch.from_numpy(example.label)


def test_sizes(recipe: Recipe, size: Size, tta: bool) -> list[Size]:
    """The sizes (height, width) at which the network gets an image of `size`.

    Multi-scale testing scales the original image; single-scale testing keeps its size, or fits it into `eval.resize`.
    Sliding windows are cut from the normalized image, so it keeps its size here.
    """
    settings = recipe.eval
    match settings.kind:
        case "sliding":
            return [size]
        case "whole" if tta:
            return [scaled_size(size, scale) for scale in settings.scales]
        case "whole":
            return [size if settings.resize == "none" else keep_ratio_size(size, settings.resize)]


def predict_labels(model: Segmenter, recipe: Recipe, images: list[Tensor], size: Size, tta: bool) -> Tensor:
    """The segmentation map (H, W) at the original `size` of one image, given as uint8 (3, h, w) at its test sizes."""
    batches = _normalized(model, recipe, images)
    match recipe.eval.kind:
        case "sliding":
            votes = _sliding_window_votes(model, recipe, batches[0], tta)
            return votes[0].argmax(0).to(label_type(votes.shape[1]))
        case "whole" if not tta:
            return model.labels(batches[0], size)[0]
        case "whole":
            return mean_softmax_labels(list(_views(model, batches, size, recipe.eval.flip)), model.align_corners)[0]


def predict_probabilities(
    model: Segmenter, recipe: Recipe, images: list[Tensor], size: Size, tta: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """The segmentation map of `predict_labels` in strips of rows, with the class probabilities it comes from.

    Yields class indices (rows, W) and probabilities (classes, rows, W), 0-1: the softmax, its mean over the views of
    multi-scale and flip testing, or the normalized votes of sliding windows.
    """
    batches = _normalized(model, recipe, images)
    match recipe.eval.kind:
        case "sliding":
            sums = (_sliding_window_votes(model, recipe, batches[0], tta),)
        case "whole" if not tta:
            sizes = [(batches[0].shape[-2], batches[0].shape[-1]), size]
            for logits in upsampled_strips(model.logits(batches[0]), sizes, model.align_corners):
                yield logits[0].argmax(0).to(label_type(logits.shape[1])), logits[0].float().softmax(0)
            return
        case "whole":
            views = list(_views(model, batches, size, recipe.eval.flip))
            strips_of_views = zip(*(upsampled_strips(*view, model.align_corners) for view in views), strict=True)
            sums = (torch.stack([strip.softmax(1) for strip in strips]).sum(0) for strips in strips_of_views)
    for total in sums:
        yield total[0].argmax(0).to(label_type(total.shape[1])), (total / total.sum(1, keepdim=True))[0]


def _normalized(model: Segmenter, recipe: Recipe, images: list[Tensor]) -> list[Tensor]:
    """Each image as a normalized batch (1, 3, h, w) on the device of the network."""
    device = next(model.parameters()).device
    return [normalize_batch(image.to(device)[None], recipe.data.mean, recipe.data.std) for image in images]


def _sliding_window_votes(model: Segmenter, recipe: Recipe, batch: Tensor, tta: bool) -> Tensor:
    """The votes of sliding windows, (1, classes, H, W): positive, but not probabilities."""
    settings = recipe.eval
    assert settings.kind == "sliding"
    black = torch.zeros(1, 3, 1, 1, device=batch.device)
    black = normalize_batch(black, recipe.data.mean, recipe.data.std).flatten()
    scales, flip = (settings.scales, settings.flip) if tta else ((1.0,), False)
    return sliding_window_votes(model, batch, black, settings.base_size, settings.crop, settings.stride, scales, flip)


def _views(model: Segmenter, batches: list[Tensor], size: Size, flip: bool) -> Iterator[tuple[Tensor, list[Size]]]:
    """The logits of every scale, and of its mirror image with `flip`, each with the sizes to resize it through."""
    for batch in batches:
        sizes = [(batch.shape[-2], batch.shape[-1]), size]
        yield model.logits(batch), sizes
        if flip:
            yield model.logits(batch.flip(-1)).flip(-1), sizes
