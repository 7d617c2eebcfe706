"""Sliding windows: their mean logits, and their votes at several scales as in FastFCN's original code.

The arithmetic of the votes is that of `MultiEvalModule` in wuhuikai/FastFCN (encoding/models/base.py); that of the mean
logits is mmsegmentation's (`EncoderDecoder.slide_inference`).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, pairwise, product
from typing import NamedTuple, Protocol

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


class Window(NamedTuple):
    """A window: rows `top` to `bottom`, columns `left` to `right`."""

    top: int
    left: int
    bottom: int
    right: int


def windows(size: Size, window: Size, stride: Size) -> list[Window]:
    """Windows of `window` pixels, `stride` pixels apart, row by row; the last ones are moved to end at the edges."""
    starts = (_inner_starts(*lengths) for lengths in zip(size, window, stride, strict=True))
    return [
        Window(top, left, min(top + window[0], size[0]), min(left + window[1], size[1]))
        for top, left in product(*starts)
    ]


class Block(NamedTuple):
    """A part of a result: `values` (B, ..., rows, columns) from row `top` and column `left` on."""

    top: int
    left: int
    values: Tensor


class OpenSums(Protocol):
    """Where `mean_blocks` stores tensors by number: a dictionary, or a file for large images."""

    def __contains__(self, key: object, /) -> bool: ...

    def __getitem__(self, key: int, /) -> Tensor: ...

    def __setitem__(self, key: int, value: Tensor, /) -> None: ...


def mean_window_logits(model: Segmenter, images: Tensor, window: Size, stride: Size) -> Iterator[Block]:
    """For each pixel of images (B, 3, H, W) the mean logits of the windows that contain it, see `mean_blocks`."""
    size = (images.shape[-2], images.shape[-1])
    places = windows(size, window, stride)
    parts = (images[..., top:bottom, left:right] for top, left, bottom, right in places)
    parts = (part.contiguous(memory_format=torch.channels_last) for part in parts)
    logits = (part.float() for part in in_batches(model, parts, model.batch_pixels))
    return mean_blocks(logits, places, size, {})


def mean_blocks(logits: Iterable[Tensor], places: list[Window], size: Size, open_sums: OpenSums) -> Iterator[Block]:
    """The mean of overlapping windows in blocks that cover an image of `size`, as soon as they are complete.

    `logits`: those of each window (B, classes, h, w), in the order of `places`. `open_sums` stores what the next row of
    windows adds to, by window in the row; apart from it, only the logits of one window are in memory.
    """
    tops, lefts = sorted({place.top for place in places}), sorted({place.left for place in places})
    counts = [_counts(length, spans) for length, spans in zip(size, _spans(places), strict=True)]
    following = {**dict(pairwise(tops)), tops[-1]: size[0]}, {**dict(pairwise(lefts)), lefts[-1]: size[1]}
    sums: Tensor | None = None
    for place, window in zip(places, logits, strict=True):
        sums = window if sums is None or place.left == 0 else _extended(sums, window)
        complete, done = following[0][place.top] - place.top, following[1][place.left] - place.left
        block, sums = sums[..., :done], sums[..., done:]
        column = lefts.index(place.left)
        if column in open_sums and place.top > 0:
            earlier = open_sums[column].to(block.device)
            block = torch.cat([block[..., : earlier.shape[-2], :] + earlier, block[..., earlier.shape[-2] :, :]], -2)
        open_sums[column] = block[..., complete:, :].clone()
        rows, columns = (
            count[start : start + length].to(block.device)
            for count, start, length in zip(counts, place[:2], (complete, done), strict=True)
        )
        yield Block(place.top, place.left, block[..., :complete, :] / (rows[:, None] * columns))


def _extended(sums: Tensor, window: Tensor) -> Tensor:
    """`window` with the open sums at its left added."""
    overlap = sums.shape[-1]
    return torch.cat([sums + window[..., :overlap], window[..., overlap:]], -1)


def _spans(places: list[Window]) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """The rows and the columns (first, last) of windows, each once."""
    return {(place.top, place.bottom) for place in places}, {(place.left, place.right) for place in places}


def _counts(length: int, spans: set[tuple[int, int]]) -> Tensor:
    """For each position of an axis the number of `spans` that contain it."""
    counts = torch.zeros(length)
    for start, stop in spans:
        counts[start:stop] += 1
    return counts


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
