"""Sliding-window testing at several scales, as in FastFCN's original code.

The arithmetic is that of `MultiEvalModule` in wuhuikai/FastFCN (encoding/models/base.py), for one image on any device.
"""

import math
from collections.abc import Callable, Sequence
from itertools import product

import torch.nn.functional as F
from torch import Tensor

from fastfcn.utils.sizes import Size

Network = Callable[[Tensor], Tensor]  # images (B, 3, h, w) -> logits (B, classes, h, w)


def sliding_window_votes(
    network: Network, image: Tensor, black: Tensor, base_size: int, crop: int, stride: int,
    scales: Sequence[float], flip: bool,
) -> Tensor:  # fmt: skip
    """Sum over `scales` of the windows' votes for each class of a normalized image (1, 3, H, W): (1, classes, H, W).

    At scale s the longer side of the image is `base_size` * s pixels, rounded up. Windows are squares of `crop` pixels
    at a distance of `stride`; the image is padded on the right and bottom with `black`, the normalized color (3,). The
    vote of a window is exp(logits), with `flip` exp(logits + logits of the mirror image): votes are not normalized,
    so confident predictions count for more. Where windows overlap, votes are averaged.
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


def _mean_over_windows(network: Network, image: Tensor, black: Tensor, crop: int, stride: int, flip: bool) -> Tensor:
    """For each pixel the mean vote of the windows that contain it: (1, classes, H, W)."""
    height, width = image.shape[-2:]
    total: Tensor | None = None
    counts = image.new_zeros(1, 1, height, width)
    for top, left in product(window_starts(height, crop, stride), window_starts(width, crop, stride)):
        region = (..., slice(top, top + crop), slice(left, left + crop))
        part = image[region]
        votes = _window_votes(network, _padded(part, black, crop), flip)
        if total is None:
            total = votes.new_zeros(1, votes.shape[1], height, width)
        total[region] += votes[..., : part.shape[-2], : part.shape[-1]]
        counts[region] += 1
    assert total is not None
    return total / counts


def _window_votes(network: Network, window: Tensor, flip: bool) -> Tensor:
    logits = network(window).float()
    if flip:
        logits = logits + network(window.flip(-1)).float().flip(-1)
    return logits.exp()


def _padded(part: Tensor, black: Tensor, crop: int) -> Tensor:
    """`part` (1, 3, h, w) padded on the right and bottom to (1, 3, crop, crop)."""
    height, width = part.shape[-2:]
    if (height, width) == (crop, crop):
        return part
    square = black.to(part)[None, :, None, None].repeat(1, 1, crop, crop)
    square[..., :height, :width] = part
    return square


def _resize(maps: Tensor, size: Size) -> Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=True)
