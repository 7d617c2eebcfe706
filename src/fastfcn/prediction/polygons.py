"""Polygons of the regions of a segmentation map, exactly along pixel edges, without a loop over pixels.

A region is a 4-connected set of pixels of one class. Each boundary between two pixels is two directed edges, one per
region, with the region on its right. The next edge follows from the two pixels ahead, and the order within a ring comes
from pointer jumping (Wyllie, The Complexity of Parallel Computations, 1979).
"""

from dataclasses import dataclass, field

import numpy as np

EAST, SOUTH, WEST, NORTH = range(4)
STEPS = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])  # (row, column), by direction
ENDS = np.array([(0, 1), (1, 1), (1, 0), (0, 0)])  # the corner of its pixel where the edge of a direction ends


@dataclass
class Polygon:
    """A region: `index` of its class, and closed rings of corners (x, y) in pixels: the outline and its holes."""

    index: int
    outline: np.ndarray
    holes: list[np.ndarray] = field(default_factory=list)


def polygons(label: np.ndarray) -> list[Polygon]:
    """The regions of the segmentation map `label` (H, W), from top to bottom. They cover every pixel exactly once."""
    edges, successor, turns = _edges(label)
    ring, order = _rings(successor)
    return _joined(label, edges, ring, order, turns)


def edge_count(label: np.ndarray) -> int:
    """Pixel edges on region boundaries. Memory and time of `polygons` are proportional to it."""
    inner = np.count_nonzero(label[1:] != label[:-1]) + np.count_nonzero(label[:, 1:] != label[:, :-1])
    return int(2 * (inner + sum(label.shape)))


def _edges(label: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges as rows (direction, row, column of the pixel), the index of each one's successor, and where it turns."""
    height, width = label.shape
    padded = np.pad(label.astype(np.int16), 1, constant_values=-1)
    core = padded[1:-1, 1:-1]
    across = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])  # of E, S, W, N edges
    pixels = [np.argwhere(core != other) for other in across]
    direction = np.repeat(np.arange(4), [len(rows) for rows in pixels])
    pixel = np.concatenate(pixels)
    left = STEPS[(direction + 3) % 4]
    ahead = pixel + STEPS[direction]
    region = label[pixel[:, 0], pixel[:, 1]]
    right_is_inside = padded[ahead[:, 0] + 1, ahead[:, 1] + 1] == region
    ahead_left = ahead + left
    left_is_inside = padded[ahead_left[:, 0] + 1, ahead_left[:, 1] + 1] == region
    turn = np.where(~right_is_inside, 1, np.where(left_is_inside, -1, 0))
    to = np.where((turn == 1)[:, None], pixel, np.where((turn == -1)[:, None], ahead_left, ahead))
    keys = (direction * height + pixel[:, 0]) * width + pixel[:, 1]
    next_keys = ((direction + turn) % 4 * height + to[:, 0]) * width + to[:, 1]
    return np.column_stack((direction, pixel)), np.searchsorted(keys, next_keys), turn != 0


def _rings(successor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ring of each edge, identified by its first edge, and all edges ordered by ring and position in it."""
    first, jump = np.arange(len(successor)), successor
    while True:
        smaller = np.minimum(first, first[jump])
        if np.array_equal(smaller, first):
            break
        first, jump = smaller, jump[jump]
    last = successor == first
    jump = np.where(last, np.arange(len(successor)), successor)
    remaining = (~last).astype(np.int64)  # edges until the ring's last
    while not last[jump].all():
        remaining, jump = remaining + remaining[jump], jump[jump]
    return first, np.lexsort((-remaining, first))


def _joined(
    label: np.ndarray, edges: np.ndarray, ring: np.ndarray, order: np.ndarray, turns: np.ndarray
) -> list[Polygon]:
    """Rings as polygons: each hole belongs to the outline around it."""
    corners = order[turns[order]]
    ends = edges[corners, 1:] + ENDS[edges[corners, 0]]
    names, starts = np.unique(ring[corners], return_index=True)
    points = dict(zip(names.tolist(), np.split(ends[:, ::-1], starts[1:]), strict=True))
    result: dict[int, Polygon] = {}
    holes = _holes(edges, ring)
    for name, corner in points.items():
        if name not in holes:
            _, row, column = edges[name]
            result[name] = Polygon(int(label[row, column]), _closed(corner))
    for name, neighbor in holes.items():  # from the top, so that the neighboring ring is known
        result[name] = result[neighbor]
        result[neighbor].holes.append(_closed(points[name]))
    return [result[name] for name in points if name not in holes]


def _holes(edges: np.ndarray, ring: np.ndarray) -> dict[int, int]:
    """Rings that are holes, from top to bottom, each with a ring of the same region that begins higher up.

    The pixel above a hole's topmost edge belongs to the region. At the left end of that pixel's horizontal run there is
    an edge of such a ring.
    """
    direction, row, column = edges.T
    signs = np.where(direction == SOUTH, column + 1, 0) - np.where(direction == NORTH, column, 0)
    area = np.bincount(ring, signs)
    west = np.flatnonzero((direction == WEST) & (area[ring] < 0))
    names, first = np.unique(ring[west], return_index=True)
    above = west[first]
    width = int(column.max()) + 1
    north = np.flatnonzero(direction == NORTH)
    runs = np.searchsorted(row[north] * width + column[north], row[above] * width + column[above], "right") - 1
    neighbor = ring[north[runs]]
    from_top = np.argsort(row[above], kind="stable")
    return dict(zip(names[from_top].tolist(), neighbor[from_top].tolist(), strict=True))


def _closed(corners: np.ndarray) -> np.ndarray:
    return np.concatenate((corners, corners[:1]))
