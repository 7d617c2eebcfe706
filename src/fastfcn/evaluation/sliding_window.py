"""Testing by windows that slide over an image, at several scales: how FastFCN's own code arrives at its figures.

The arithmetic is that of `MultiEvalModule` in wuhuikai/FastFCN (encoding/models/base.py), for one image on any device.
"""

import math
from collections.abc import Callable, Sequence
from itertools import product

import torch.nn.functional as F
from torch import Tensor

from fastfcn.utils.types import Size

Network = Callable[[Tensor], Tensor]  # images (B, 3, h, w) -> logits (B, classes, h, w)


def sliding_logits(
    network: Network, image: Tensor, black: Tensor, base_size: int, crop: int, stride: int,
    scales: Sequence[float], flip: bool,
) -> Tensor:  # fmt: skip
    """Sum over `scales` of what the windows say of a normalised image (1, 3, H, W): (1, classes, H, W).

    At scale s the longer side is `base_size` * s pixels, rounded up. Windows are squares of `crop` pixels, `stride`
    from one to the next; where the image does not fill one, it is continued to the right and below with `black`, the
    normalised colour (3,). Scores of a window, and of its mirror image with `flip`, are added and taken to the power
    of e; they are no shares of 1, so sure views count for more than unsure ones.
    """
    size = (image.shape[-2], image.shape[-1])
    total: Tensor | float = 0.0
    for scale in scales:
        scaled = _resize(image, long_side_size(size, math.ceil(base_size * scale)))
        total = total + _resize(_mean_over_windows(network, scaled, black, crop, stride, flip), size)
    assert isinstance(total, Tensor)  # there is a scale
    return total


def long_side_size(size: Size, length: int) -> Size:
    """(height, width) with the proportions of `size` whose longer side is `length`; the other is rounded."""
    height, width = size
    if height > width:
        return length, int(width * length / height + 0.5)
    return int(height * length / width + 0.5), length


def window_starts(length: int, crop: int, stride: int) -> range:
    """Where windows of `crop` pixels begin, so that together they cover `length` pixels; the last may reach beyond."""
    return range(0, max(math.ceil((length - crop) / stride), 0) * stride + 1, stride)


def _mean_over_windows(network: Network, image: Tensor, black: Tensor, crop: int, stride: int, flip: bool) -> Tensor:
    """For each pixel of the image the mean over the windows that it lies in: (1, classes, H, W)."""
    height, width = image.shape[-2:]
    total: Tensor | None = None
    counts = image.new_zeros(1, 1, height, width)
    for top, left in product(window_starts(height, crop, stride), window_starts(width, crop, stride)):
        place = (..., slice(top, top + crop), slice(left, left + crop))
        part = image[place]
        found = _window(network, _filled(part, black, crop), flip)
        if total is None:
            total = found.new_zeros(1, found.shape[1], height, width)
        total[place] += found[..., : part.shape[-2], : part.shape[-1]]
        counts[place] += 1
    assert total is not None
    return total / counts


def _window(network: Network, window: Tensor, flip: bool) -> Tensor:
    logits = network(window).float()
    if flip:
        logits = logits + network(window.flip(-1)).float().flip(-1)
    return logits.exp()


def _filled(part: Tensor, black: Tensor, crop: int) -> Tensor:
    """`part` (1, 3, h, w) in the top left corner of a square of `crop` pixels."""
    height, width = part.shape[-2:]
    if (height, width) == (crop, crop):
        return part
    square = black.to(part)[None, :, None, None].repeat(1, 1, crop, crop)
    square[..., :height, :width] = part
    return square


def _resize(maps: Tensor, size: Size) -> Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=True)
