"""Sliding windows: their mean logits, and their votes at several scales as in FastFCN's original code.

The arithmetic of the votes is that of `MultiEvalModule` in wuhuikai/FastFCN (encoding/models/base.py); that of the mean
logits is mmsegmentation's (`EncoderDecoder.slide_inference`).
"""

import math
from collections.abc import Callable, Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn.models.segmenter import Segmenter
from fastfcn.utils.sizes import Size

Network = Callable[[Tensor], Tensor]  # images (B, 3, h, w) -> logits (B, classes, h, w)


def sliding_window_votes(
    network: Network, image: Tensor, black: Tensor, base_size: int, crop: Size, stride: Size,
    scales: Sequence[float], flip: bool,
) -> Tensor:  # fmt: skip
    """Sum over `scales` of the windows' votes for each class of normalized images (B, 3, H, W): (B, classes, H, W).

    At scale s the longer side of an image is `base_size` * s pixels, rounded up. Windows have `crop` (height, width)
    pixels and are `stride` pixels apart; the image is padded on the right and bottom with `black`, the normalized color
    (3,). The vote of a window is exp(logits), with `flip` exp(logits + logits of the flipped image): votes are not
    normalized, so confident predictions count for more. Where windows overlap, votes are averaged.
    """
    size = (image.shape[-2], image.shape[-1])
    total: Tensor | float = 0.0
    for scale in scales:
        scaled = _resize(image, long_side_size(size, math.ceil(base_size * scale)))
        total = total + _resize(_mean_over_windows(network, scaled, black, crop, stride, flip), size)
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
    for top, left in product(*(_inner_starts(*lengths) for lengths in zip(size, window, stride, strict=True))):
        region = (..., slice(top, top + window[0]), slice(left, left + window[1]))
        logits: Tensor = model(images[region].contiguous(memory_format=torch.channels_last)).float()
        if total is None:
            total = logits.new_zeros(*logits.shape[:2], *size)
        total[region] += logits
        counts[region] += 1
    assert isinstance(total, Tensor)
    return total / counts


def _inner_starts(length: int, window: int, stride: int) -> list[int]:
    """Start positions of windows that cover `length` pixels; none extends beyond, unless the window is longer."""
    return [max(min(start, length - window), 0) for start in window_starts(length, window, stride)]


def _mean_over_windows(network: Network, image: Tensor, black: Tensor, crop: Size, stride: Size, flip: bool) -> Tensor:
    """For each pixel the mean vote of the windows that contain it: (B, classes, H, W)."""
    height, width = image.shape[-2:]
    total: Tensor | None = None
    counts = image.new_zeros(1, 1, height, width)
    starts = (window_starts(*lengths) for lengths in zip((height, width), crop, stride, strict=True))
    for top, left in product(*starts):
        region = (..., slice(top, top + crop[0]), slice(left, left + crop[1]))
        part = image[region]
        votes = _window_votes(network, _padded(part, black, crop), flip)
        if total is None:
            total = votes.new_zeros(*votes.shape[:2], height, width)
        total[region] += votes[..., : part.shape[-2], : part.shape[-1]]
        counts[region] += 1
    assert total is not None
    return total / counts


def _window_votes(network: Network, window: Tensor, flip: bool) -> Tensor:
    logits = network(window).float()
    if flip:
        logits = logits + network(window.flip(-1)).float().flip(-1)
    return logits.exp()


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
