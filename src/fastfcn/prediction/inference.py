"""Inference on images of one size: the one path behind evaluation, predictors, the service and exported files.

An image is resized to the network's input sizes, one for each view (`resized`, `input_sizes`); the logits of views and
windows are combined and resized back to the image (`predict_labels`, `predict_logits`, `predict_probabilities`). Large
images are read and processed part by part (`tiled_labels`).
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from fastfcn.data.opencv_resize import keep_ratio_size, resize_image, scaled_size
from fastfcn.data.transforms import normalize_batch
from fastfcn.errors import UserError
from fastfcn.models.segmenter import Segmenter
from fastfcn.ops.upsample import label_type, mean_softmax_labels, upsample_labels, upsampled_strips
from fastfcn.prediction.sliding_window import (
    Block,
    OpenSums,
    Window,
    in_batches,
    mean_window_logits,
    sliding_window_votes,
)
from fastfcn.prediction.tiles import TiledLabels
from fastfcn.recipes.inference import InferenceSettings
from fastfcn.utils.sizes import Size

View = tuple[Tensor, list[Size]]  # logits (B, classes, h, w), and the sizes to resize them through


def input_sizes(settings: InferenceSettings, size: Size) -> list[Size]:
    """The sizes (height, width) at which the network gets an image of `size`, one for each scale.

    With votes of sliding windows the normalized image is resized, so it keeps its size here.
    """
    if settings.long_side:
        return [size]
    fitted = keep_ratio_size(size, settings.resize) if settings.resize else size
    if not settings.tta:
        return [fitted]
    base = fitted if settings.scales_resized else size
    return [scaled_size(base, scale) for scale in settings.scales]


def resized(settings: InferenceSettings, image: np.ndarray) -> list[Tensor]:
    """An image (H, W, C), RGB uint8 or bands in float32, at its input sizes: (C, h, w), channels last in memory."""
    sizes = input_sizes(settings, (image.shape[0], image.shape[1]))
    return [torch.from_numpy(resize_image(image, size)).permute(2, 0, 1) for size in sizes]


def resized_batch(settings: InferenceSettings, images: np.ndarray) -> list[Tensor]:
    """Images (B, H, W, C) of one size, as for `resized`, at their input sizes: (B, C, h, w)."""
    size = (images.shape[1], images.shape[2])
    if input_sizes(settings, size) == [size]:
        return [torch.from_numpy(images).permute(0, 3, 1, 2)]
    return [torch.stack(list(parts)) for parts in zip(*(resized(settings, image) for image in images), strict=True)]


def predict_labels(model: Segmenter, settings: InferenceSettings, images: list[Tensor], size: Size) -> Tensor:
    """Segmentation maps (B, H, W) at the original `size` of images given as (B, C, h, w) at their input sizes."""
    if settings.tiles:
        return _joined(tiled_labels(model, settings, size, partial(_part, images[0])), size)
    batches = _normalized(model, settings, images)
    if settings.long_side:
        votes = _votes(model, settings, batches[0])
        return votes.argmax(1).to(label_type(votes.shape[1]))
    if settings.tta:
        return mean_softmax_labels(list(_views(model, settings, batches, size)), model.align_corners)
    if _in_windows(settings, batches[0]):
        return upsample_labels(*_view(model, settings, batches[0], size), model.align_corners)
    return model.labels(batches[0], size)  # the fast path: no logits at the size of the image


def predict_probabilities(
    model: Segmenter, settings: InferenceSettings, images: list[Tensor], size: Size
) -> Iterator[tuple[Tensor, Tensor]]:
    """The segmentation maps of `predict_labels` in strips of rows, with the class probabilities they come from.

    Yields class indices (B, rows, W) and probabilities (B, classes, rows, W), 0-1: the softmax, its mean over the views
    of test-time augmentation, or the normalized votes of sliding windows.
    """
    _refuse_tiles(settings)
    batches = _normalized(model, settings, images)
    if settings.long_side:
        sums = iter((_votes(model, settings, batches[0]),))
    elif settings.tta:
        views = list(_views(model, settings, batches, size))
        strips_of_views = zip(*(upsampled_strips(*view, model.align_corners) for view in views), strict=True)
        sums = (torch.stack([strip.softmax(1) for strip in strips]).sum(0) for strips in strips_of_views)
    else:
        for logits in upsampled_strips(*_view(model, settings, batches[0], size), model.align_corners):
            yield logits.argmax(1).to(label_type(logits.shape[1])), logits.float().softmax(1)
        return
    for total in sums:
        yield total.argmax(1).to(label_type(total.shape[1])), total / total.sum(1, keepdim=True)


def predict_logits(model: Segmenter, settings: InferenceSettings, images: list[Tensor], size: Size) -> Tensor:
    """Logits (B, classes, H, W), float32, at the original `size`; arguments as for `predict_labels`.

    With several views or votes, they are the logarithm of the probabilities.
    """
    if settings.tta or settings.long_side:
        strips = [probabilities for _, probabilities in predict_probabilities(model, settings, images, size)]
        return torch.cat(strips, 2).float().clamp_min(torch.finfo(torch.float32).tiny).log()
    _refuse_tiles(settings)
    (batch,) = _normalized(model, settings, images)
    if batch.shape[-2:] == size and not _in_windows(settings, batch):
        return model(batch).float()
    strips = upsampled_strips(*_view(model, settings, batch, size), model.align_corners)
    return torch.cat([strip.float() for strip in strips], 2)


def tiled_labels(
    model: Segmenter, settings: InferenceSettings, size: Size, read: Callable[[Window], Tensor],
    open_sums: OpenSums | None = None,
) -> TiledLabels:  # fmt: skip
    """The labels of images of `size`, part by part; `read` returns a part of them, uint8 (B, 3, h, w)."""
    return TiledLabels(model, settings, size, lambda window: _normalized(model, settings, [read(window)])[0], open_sums)


def _part(images: Tensor, window: Window) -> Tensor:
    return images[..., window.top : window.bottom, window.left : window.right]


def _joined(blocks: Iterable[Block | None], size: Size) -> Tensor:
    """The whole of which `blocks` are the parts."""
    whole: Tensor | None = None
    for block in blocks:
        if block is None:
            continue
        top, left, values = block
        if whole is None:
            whole = values.new_empty(*values.shape[:-2], *size)
        whole[..., top : top + values.shape[-2], left : left + values.shape[-1]] = values
    assert whole is not None
    return whole


def _refuse_tiles(settings: InferenceSettings) -> None:
    """Raise UserError where tiles have no logits and probabilities."""
    if settings.whole_in_tiles:
        raise UserError(
            "Tiles with the context of the whole image give labels only.",
            'Use context="window", or leave out the tiles, if the image fits into the memory.',
        )


def device_of(model: nn.Module) -> torch.device:
    """Where a network is; the CPU for one whose weights are all packed for the CPU kernels."""
    tensor = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def _normalized(model: Segmenter, settings: InferenceSettings, images: list[Tensor]) -> list[Tensor]:
    """Batches as the network reads them, on its device."""
    device = device_of(model)
    return [normalize_batch(_on_device(batch, device), settings.mean, settings.std) for batch in images]


def _on_device(batch: Tensor, device: torch.device) -> Tensor:
    """`batch` on `device`; for an NVIDIA GPU through pinned memory, so that the CPU does not wait for the copy.

    PyTorch keeps freed pinned memory for the next batch.
    """
    if device.type != "cuda":
        return batch.to(device)
    return batch.pin_memory().to(device, non_blocking=True)


def _votes(model: Segmenter, settings: InferenceSettings, batch: Tensor) -> Tensor:
    """The votes of sliding windows, (B, classes, H, W): positive, but not probabilities."""
    assert settings.long_side
    assert settings.window
    assert settings.stride
    black = normalize_batch(
        torch.zeros(1, len(settings.mean), 1, 1, device=batch.device), settings.mean, settings.std
    ).flatten()
    scales, flip = (settings.scales, settings.flip) if settings.tta else ((1.0,), False)
    return sliding_window_votes(
        model, batch, black, settings.long_side, settings.window, settings.stride, scales, flip, model.batch_pixels
    )  # fmt: skip


def _views(model: Segmenter, settings: InferenceSettings, batches: list[Tensor], size: Size) -> Iterator[View]:
    """Every scale, and with `flip` each scale flipped horizontally."""
    for batch in batches:
        sizes = [(batch.shape[-2], batch.shape[-1]), size]
        views = (batch.flip(-1) if flipped else batch for flipped in range(2 if settings.flip else 1))
        outputs = in_batches(lambda view: _logits(model, settings, view), views, model.batch_pixels)
        yield next(outputs), sizes
        if settings.flip:
            yield next(outputs).flip(-1), sizes


def _view(model: Segmenter, settings: InferenceSettings, batch: Tensor, size: Size) -> View:
    return _logits(model, settings, batch), [(batch.shape[-2], batch.shape[-1]), size]


def _logits(model: Segmenter, settings: InferenceSettings, batch: Tensor) -> Tensor:
    """Logits (B, classes, h, w) of a normalized batch, of windows those at its full size."""
    if not _in_windows(settings, batch):
        return model.logits(batch)
    assert settings.window
    assert settings.stride
    blocks = mean_window_logits(model, batch, settings.window, settings.stride)
    return _joined(blocks, (batch.shape[-2], batch.shape[-1]))


def _in_windows(settings: InferenceSettings, batch: Tensor) -> bool:
    """Whether logits are averaged over windows; an image that fits into one window needs no averaging."""
    if settings.window is None:
        return False
    return batch.shape[-2] > settings.window[0] or batch.shape[-1] > settings.window[1]
