"""Tiles of an image that a network processes one by one, with the results of the whole image.

Most of a network sees finitely far: a tile that is read with a halo of that many pixels has the same features as the
whole image. Two kinds of operations do not, and ask the active `Tile`:

- Sums over the whole map (the bins of pyramid pooling, the residuals to codewords). A pass over all tiles adds up each
  of them, then a last pass uses them.
- Bilinear resizing between strides. Maps are as large as sides / stride, rounded up, so the ratio of a tile differs
  from that of the whole image unless the sides are multiples of the largest stride.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

STRIDES = (1, 2, 4, 8, 16, 32)  # of the maps of a network
ALIGNMENT = STRIDES[-1]  # tiles start at multiples, so that all their maps are parts of those of the whole image


class Span(NamedTuple):
    """Positions `start` to `stop` of an axis that has `length` positions."""

    start: int
    stop: int
    length: int

    def at(self, stride: int) -> "Span":
        """The span on a map of that stride; `start` must be a multiple of it."""
        return Span(self.start // stride, -(-self.stop // stride), -(-self.length // stride))

    @property
    def size(self) -> int:
        return self.stop - self.start

    def inside(self, outer: "Span") -> slice:
        """Where this span is in an array that holds `outer`."""
        return slice(self.start - outer.start, self.stop - outer.start)


Place = tuple[Span, Span]  # rows and columns
Partial = Callable[[Tensor, Span, Span], Sequence[Tensor]]  # the part of a map, and its rows and columns -> sums


class WholeImage(Protocol):
    """What operations ask for while they process a tile; see `Tile`."""

    def total(self, features: Tensor, partial: Partial) -> list[Tensor]: ...

    def resize(self, maps: Tensor, size: Sequence[int], align_corners: bool) -> Tensor: ...

    def place(self, size: Sequence[int]) -> Place: ...


class TotalsMissingError(Exception):
    """Ends the forward pass of a tile: all tiles must add to a total before it can continue."""


@dataclass
class Totals:
    """Sums over the tiles of an image, in the order in which a network needs them.

    `finished`: those of earlier passes; `running`: that of the current pass, in float64.
    """

    finished: list[list[Tensor]] = field(default_factory=list)
    running: list[Tensor] | None = None

    def add(self, parts: Sequence[Tensor]) -> None:
        doubles = [part.detach().cpu().double() for part in parts]
        self.running = doubles if self.running is None else [a + b for a, b in zip(self.running, doubles, strict=True)]

    def finish_pass(self) -> bool:
        """End a pass over all tiles; returns whether it added up a total, so that there is a further pass."""
        if self.running is None:
            return False
        self.finished.append(self.running)
        self.running = None
        return True


class Tile:
    """A part of an image: `core` is the part whose results are used, `outer` what the network gets: core and halo."""

    def __init__(self, core: Place, outer: Place, totals: Totals):
        self.core, self.outer, self.totals = core, outer, totals
        self._asked = 0

    def total(self, features: Tensor, partial: Partial) -> list[Tensor]:
        """Sums over the whole map; `partial` returns those over a part of it.

        Raises TotalsMissingError after adding this tile's part, until all tiles have added theirs.
        """
        index = self._asked
        self._asked += 1
        if index < len(self.totals.finished):
            return [total.to(features.dtype).to(features.device) for total in self.totals.finished[index]]
        stride = self._stride(features.shape[-2:])
        rows, columns = (span.at(stride) for span in self.core)
        outer_rows, outer_columns = (span.at(stride) for span in self.outer)
        part = features[..., rows.inside(outer_rows), columns.inside(outer_columns)]
        self.totals.add(partial(part, rows, columns))
        raise TotalsMissingError

    def resize(self, maps: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
        """Maps (B, C, h, w) at the `size` of another map of this tile, as resizing the whole map does it."""
        return resize_part(maps, self.place(maps.shape[-2:]), self.place(size), align_corners)

    def place(self, size: Sequence[int]) -> Place:
        """The part of the whole map that a map of `size` (height, width) of this tile is."""
        stride = self._stride(size)
        rows, columns = self.outer
        return rows.at(stride), columns.at(stride)

    def _stride(self, size: Sequence[int]) -> int:
        return next(s for s in STRIDES if tuple(span.at(s).size for span in self.outer) == tuple(size))


class _Active(threading.local):
    tile: WholeImage | None = None


_active = _Active()


def active_tile() -> WholeImage | None:
    """The tile that this thread processes; None if it processes whole images."""
    return _active.tile


@contextmanager
def processing(tile: WholeImage) -> Iterator[None]:
    """Operations of this thread process `tile`."""
    before, _active.tile = _active.tile, tile
    try:
        yield
    finally:
        _active.tile = before


def resize_part(maps: Tensor, before: Place, after: Place, align_corners: bool) -> Tensor:
    """The part `after` of bilinearly resized maps, from their part `before` (B, C, h, w), as `F.interpolate` does.

    Values near the edges of the part that depend on what is beyond it are not those of the whole map.
    """
    for dim, (source, target) in zip((2, 3), zip(before, after, strict=True), strict=True):
        if source == target:
            continue
        low, high, fraction = source_positions(target.start, target.stop, source.length, target.length, align_corners)
        low, high = (
            torch.from_numpy((index - source.start).clip(0, source.size - 1)).to(maps.device) for index in (low, high)
        )
        weight = torch.from_numpy(fraction).to(maps.device, maps.dtype)
        weight = weight[:, None] if dim == 2 else weight
        maps = torch.lerp(maps.index_select(dim, low), maps.index_select(dim, high), weight)
    return maps


def source_positions(
    start: int, stop: int, before: int, after: int, align_corners: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of `before` positions each of the positions `start` to `stop` of `after` is interpolated from.

    The position below, the position above, and the weight of the latter, as in `F.interpolate`. Computed on the CPU in
    float32, because the sizes of strips read from a GPU would mean waiting for it.
    """
    positions = np.arange(start, stop, dtype=np.float32)
    if align_corners:
        source = positions * np.float32((before - 1) / max(after - 1, 1))
    else:
        source = np.maximum((positions + np.float32(0.5)) * np.float32(before / after) - np.float32(0.5), np.float32(0))
    low = np.minimum(source.astype(np.int64), before - 1)  # positions are not negative
    high = np.minimum(low + 1, before - 1)
    return low, high, source - low.astype(np.float32)
