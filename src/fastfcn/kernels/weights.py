"""Weights in the forms that the operators read."""

from itertools import product

import torch
from torch import Tensor

# G of Lavin and Gray (2015): 3 taps -> places, for tiles of 3 and 4 results along an axis; see winograd.h.
TRANSFORMS = {
    3: [[1 / 2, 0, 0], [-1 / 2, -1 / 2, -1 / 2], [-1 / 6, 1 / 6, -1 / 6], [1 / 6, 1 / 3, 2 / 3], [0, 0, 1]],
    4: [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
}


def lanes() -> int:
    """How many float32 the processor's vectors hold."""
    return torch.ops.fastfcn.lanes()


def pack(matrix: Tensor) -> Tensor:
    """(k, n) -> (panels, k, panel): columns in panels of two vectors, zeros after the last."""
    panel = 2 * lanes()
    padded = torch.nn.functional.pad(matrix, (0, -matrix.shape[1] % panel))
    return padded.reshape(matrix.shape[0], -1, panel).transpose(0, 1).contiguous()


def pack_pointwise(weight: Tensor) -> Tensor:
    """(O, I, 1, 1) -> for `pointwise`."""
    return pack(weight[:, :, 0, 0].T)


def pack_taps(weight: Tensor) -> Tensor:
    """(O, I, 3, 3) -> (9, panels, I, panel), for `atrous`."""
    return torch.stack([pack(weight[:, :, row, column].T) for row, column in product(range(3), repeat=2)])


def winograd_weights(weight: Tensor, tile: tuple[int, int]) -> Tensor:
    """(O, I, 3, 3) -> (places, panels, I, panel), for `winograd` with tiles of so many rows and columns.

    Transformed in float64 and rounded once.
    """
    rows, columns = (torch.tensor(TRANSFORMS[size], dtype=torch.float64) for size in tile)
    packed = None
    for index, (row, column) in enumerate(product(rows, columns)):
        place = pack(torch.einsum("a,oiab,b->io", row, weight.double(), column).float())
        packed = place.new_empty((len(rows) * len(columns), *place.shape)) if packed is None else packed
        packed[index] = place
    assert packed is not None
    return packed


def slices(taps: Tensor) -> Tensor:
    """(C, 1, 3, 3) -> (slices, 9, lanes), the depthwise weights of `jpu`."""
    return taps.reshape(-1, lanes(), 9).transpose(1, 2).contiguous()
