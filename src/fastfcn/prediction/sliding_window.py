"""Sliding windows: their mean logits, and their votes at several scales as in FastFCN's original code.

The arithmetic of the votes is that of `MultiEvalModule` in wuhuikai/FastFCN (encoding/models/base.py); that of the mean
logits is mmsegmentation's (`EncoderDecoder.slide_inference`).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, product

import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn.models.segmenter import Segmenter
from fastfcn.utils.sizes import Size

Network = Callable[[Tensor], Tensor]  # images (B, 3, h, w) -> logits (B, classes, h, w)


def sliding_window_votes(
    network: Network, image: Tensor, black: Tensor, base_size: int, crop: Size, stride: Size,
    scales: Sequence[float], flip: bool, batch_pixels: int = 0,
) -> Tensor:  # fmt: skip
    """Sum over `scales` of the windows' votes for each class of normalized images (B, 3, H, W): (B, classes, H, W).

    At scale s the longer side of an image is `base_size` * s pixels, rounded up. Windows have `crop` (height, width)
    pixels and are `stride` pixels apart; the image is padded on the right and bottom with `black`, the normalized color
    (3,). The vote of a window is exp(logits), with `flip` exp(logits + logits of the flipped image): votes are not
    normalized, so confident predictions count for more. Where windows overlap, votes are averaged. `batch_pixels`: as
    for `in_batches`.
    """
    size = (image.shape[-2], image.shape[-1])
    total: Tensor | float = 0.0
    for scale in scales:
        scaled = _resize(image, long_side_size(size, math.ceil(base_size * scale)))
        total = total + _resize(_mean_over_windows(network, scaled, black, crop, stride, flip, batch_pixels), size)
    assert isinstance(total, Tensor)  # at least one scale
    return total


def long_side_size(size: Size, length: int) -> Size:
    """(height, width) with the aspect ratio of `size` and a longer side of `length`; the other side is rounded."""
    height, width = size
    if height > width:
        return length, int(width * length / height + 0.5)
    return int(height * length / width + 0.5), length


def window_starts(length: int, crop: int, stride: int) -> range:
    """Start positions of windows of `crop` pixels that cover `length` pixels; the last one may extend beyond."""
    return range(0, max(math.ceil((length - crop) / stride), 0) * stride + 1, stride)


def mean_window_logits(model: Segmenter, images: Tensor, window: Size, stride: Size) -> Tensor:
    """For each pixel the mean logits of the windows that contain it, (B, classes, H, W), of images (B, 3, H, W).

    Windows of `window` (height, width) pixels are `stride` pixels apart; the last ones are moved to end at the edges.
    """
    size = (images.shape[-2], images.shape[-1])
    total: Tensor | None = None
    counts = images.new_zeros(1, 1, *size)
    starts = product(*(_inner_starts(*lengths) for lengths in zip(size, window, stride, strict=True)))
    regions = [(..., slice(top, top + window[0]), slice(left, left + window[1])) for top, left in starts]
    parts = (images[region].contiguous(memory_format=torch.channels_last) for region in regions)
    for region, part in zip(regions, in_batches(model, parts, model.batch_pixels), strict=True):
        logits = part.float()
        if total is None:
            total = logits.new_zeros(*logits.shape[:2], *size)
        total[region] += logits
        counts[region] += 1
    assert isinstance(total, Tensor)
    return total / counts


def in_batches(network: Network, inputs: Iterable[Tensor], pixels: int) -> Iterator[Tensor]:
    """The output of `network` for each of `inputs` (B, 3, h, w), which have one size, in order.

    As many inputs run together as have up to `pixels` pixels; 0: one at a time.
    """
    inputs = iter(inputs)
    for first in inputs:
        count = max(1, pixels // max(1, first.shape[0] * first.shape[-2] * first.shape[-1]))
        parts = [first, *islice(inputs, count - 1)]
        yield from network(torch.cat(parts) if len(parts) > 1 else first).chunk(len(parts))


def _inner_starts(length: int, window: int, stride: int) -> list[int]:
    """Start positions of windows that cover `length` pixels; none extends beyond, unless the window is longer."""
    return [max(min(start, length - window), 0) for start in window_starts(length, window, stride)]


def _mean_over_windows(
    network: Network, image: Tensor, black: Tensor, crop: Size, stride: Size, flip: bool, batch_pixels: int
) -> Tensor:
    """For each pixel the mean vote of the windows that contain it: (B, classes, H, W)."""
    height, width = image.shape[-2:]
    total: Tensor | None = None
    counts = image.new_zeros(1, 1, height, width)
    starts = product(*map(window_starts, (height, width), crop, stride))
    regions = [(..., slice(top, top + crop[0]), slice(left, left + crop[1])) for top, left in starts]
    windows = (_padded(image[region], black, crop) for region in regions)
    views = (view for window in windows for view in ([window, window.flip(-1)] if flip else [window]))
    outputs = in_batches(network, views, batch_pixels)
    for region in regions:
        logits = next(outputs).float()
        if flip:
            logits = logits + next(outputs).float().flip(-1)
        if total is None:
            total = logits.new_zeros(*logits.shape[:2], height, width)
        rows, columns = total[region].shape[-2:]
        total[region] += logits.exp()[..., :rows, :columns]
        counts[region] += 1
    assert total is not None
    return total / counts


def _padded(part: Tensor, black: Tensor, crop: Size) -> Tensor:
    """`part` (B, 3, h, w) padded on the right and bottom to (B, 3, *crop)."""
    height, width = part.shape[-2:]
    if (height, width) == crop:
        return part
    window = black.to(part)[None, :, None, None].repeat(len(part), 1, *crop)
    window[..., :height, :width] = part
    return window


def _resize(maps: Tensor, size: Size) -> Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=True)
