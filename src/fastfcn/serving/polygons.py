"""Outlines of a class map's regions, exactly along the edges of pixels, without a loop over pixels.

A region is a set of pixels of one class that touch along their sides. Each boundary between two pixels is two directed
edges, one a region, with the region on its right hand; who follows whom is read from the two pixels ahead, and the
order within a ring comes from pointer jumping (Wyllie, The Complexity of Parallel Computations, 1979).
"""

from dataclasses import dataclass, field

import numpy as np

EAST, SOUTH, WEST, NORTH = range(4)
STEPS = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])  # (row, column), by direction
ENDS = np.array([(0, 1), (1, 1), (1, 0), (0, 0)])  # the corner of its pixel where the edge of a direction ends


@dataclass
class Polygon:
    """A region: `index` of its class, and rings of corners (x, y) in pixels, each closed; holes lie in `outline`."""

    index: int
    outline: np.ndarray
    holes: list[np.ndarray] = field(default_factory=list)


def polygons(label: np.ndarray) -> list[Polygon]:
    """The regions of the class map `label` (H, W), from the top. Together they cover it, each pixel once."""
    edges, follower, turns = _edges(label)
    ring, order = _rings(follower)
    return _joined(label, edges, ring, order, turns)


def edge_count(label: np.ndarray) -> int:
    """Sides of pixels at which a region ends; outlines take memory and time in proportion to it."""
    inner = np.count_nonzero(label[1:] != label[:-1]) + np.count_nonzero(label[:, 1:] != label[:, :-1])
    return int(2 * (inner + sum(label.shape)))


def _edges(label: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges as rows (direction, row, column of the pixel), the index of each one's follower, and where it turns."""
    height, width = label.shape
    padded = np.pad(label.astype(np.int16), 1, constant_values=-1)
    core = padded[1:-1, 1:-1]
    across = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])  # of E, S, W, N edges
    found = [np.argwhere(core != other) for other in across]
    direction = np.repeat(np.arange(4), [len(each) for each in found])
    pixel = np.concatenate(found)
    left = STEPS[(direction + 3) % 4]
    ahead = pixel + STEPS[direction]
    own = label[pixel[:, 0], pixel[:, 1]]
    right_is_own = padded[ahead[:, 0] + 1, ahead[:, 1] + 1] == own
    beside = ahead + left
    left_is_own = padded[beside[:, 0] + 1, beside[:, 1] + 1] == own
    turn = np.where(~right_is_own, 1, np.where(left_is_own, -1, 0))
    to = np.where((turn == 1)[:, None], pixel, np.where((turn == -1)[:, None], beside, ahead))
    keys = (direction * height + pixel[:, 0]) * width + pixel[:, 1]
    wanted = ((direction + turn) % 4 * height + to[:, 0]) * width + to[:, 1]
    return np.column_stack((direction, pixel)), np.searchsorted(keys, wanted), turn != 0


def _rings(follower: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ring of each edge, named by its first edge, and all edges ring by ring in their order."""
    first, jump = np.arange(len(follower)), follower
    while True:
        smaller = np.minimum(first, first[jump])
        if np.array_equal(smaller, first):
            break
        first, jump = smaller, jump[jump]
    last = follower == first
    jump = np.where(last, np.arange(len(follower)), follower)
    left = (~last).astype(np.int64)  # edges to the ring's last
    while not last[jump].all():
        left, jump = left + left[jump], jump[jump]
    return first, np.lexsort((-left, first))


def _joined(
    label: np.ndarray, edges: np.ndarray, ring: np.ndarray, order: np.ndarray, turns: np.ndarray
) -> list[Polygon]:
    """Rings as polygons: each hole goes to the outline around it."""
    corners = order[turns[order]]
    ends = edges[corners, 1:] + ENDS[edges[corners, 0]]
    names, starts = np.unique(ring[corners], return_index=True)
    points = dict(zip(names.tolist(), np.split(ends[:, ::-1], starts[1:]), strict=True))
    held: dict[int, Polygon] = {}
    holes = _holes(edges, ring)
    for name, corner in points.items():
        if name not in holes:
            _, row, column = edges[name]
            held[name] = Polygon(int(label[row, column]), _closed(corner))
    for name, beside in holes.items():  # from the top, so that the ring beside is known
        held[name] = held[beside]
        held[beside].holes.append(_closed(points[name]))
    return [held[name] for name in points if name not in holes]


def _holes(edges: np.ndarray, ring: np.ndarray) -> dict[int, int]:
    """Rings that are holes, from the top, each with a ring of the same region that begins higher up.

    Above a hole's first top side lies a pixel of the region; where the run of pixels that it is in begins, on the
    left, there is an edge of such a ring.
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
    beside = ring[north[runs]]
    from_top = np.argsort(row[above], kind="stable")
    return dict(zip(names[from_top].tolist(), beside[from_top].tolist(), strict=True))


def _closed(corners: np.ndarray) -> np.ndarray:
    return np.concatenate((corners, corners[:1]))
