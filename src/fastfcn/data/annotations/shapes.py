"""Shapes as pixels: polygons, ellipses, boxes and run lengths become regions of an image.

Coordinates are continuous: (0, 0) is the upper left corner of the upper left pixel. Polygons are filled by the rule of
the COCO API (pycocotools): vertices are rounded to fifths of a pixel, and a pixel belongs to the polygon if its center
does, where the boundary is drawn on that finer grid. A polygon that crosses itself is filled by the even-odd rule.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from fastfcn.errors import DataError
from fastfcn.utils.sizes import Size

SCALE = 5  # grid cells per pixel, of the COCO API
MAX_COORDINATE = 1e6  # pixels; nothing further away from an image is a coordinate
MAX_CROSSINGS = 50_000_000  # of the edges of one polygon with columns of pixels: seconds, and a gigabyte


class Region(NamedTuple):
    """Pixels of an image: `mask` (height, width), bool, with its upper left corner at (`top`, `left`)."""

    top: int
    left: int
    mask: np.ndarray

    @property
    def area(self) -> int:
        return int(np.count_nonzero(self.mask))


EMPTY = Region(0, 0, np.zeros((0, 0), bool))


def polygon(points: np.ndarray, size: Size) -> Region:
    """The pixels inside a polygon, within an image of `size`; `points` (N, 2) are x and y in pixels.

    Raises DataError for a polygon with far too many edges and coordinates that are not near an image.
    """
    if not np.isfinite(points).all() or np.abs(points).max(initial=0) > MAX_COORDINATE:
        raise DataError(f"a coordinate is not a number, or beyond {MAX_COORDINATE:.0f}")
    grid = np.trunc(SCALE * points + 0.5).astype(np.int64)
    columns, heights = _crossings(grid, np.roll(grid, -1, axis=0), size[1])
    if not len(columns):
        return EMPTY
    rows = np.ceil(np.clip((heights + 0.5) / SCALE - 0.5, 0, size[0])).astype(np.int64)
    top, left = int(rows.min()), int(columns.min())
    # Every crossing begins or ends a run of pixels in its column.
    changes = np.zeros((int(rows.max()) - top + 1, int(columns.max()) - left + 1), np.uint8)
    np.bitwise_xor.at(changes, (rows - top, columns - left), 1)
    inside = np.bitwise_xor.accumulate(changes, axis=0)[:-1]
    return Region(top, left, inside.astype(bool))


def _crossings(start: np.ndarray, end: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Where edges on the grid cross the middles of columns of pixels: columns, and heights in cells of the grid.

    The middle of column c is between the cells 5c + 2 and 5c + 3. `start` and `end`: (N, 2), int64.
    """
    steep = np.abs(end - start)[:, 0] < np.abs(end - start)[:, 1]
    axis = steep.astype(np.int64)
    index = np.arange(len(start))
    swapped = (start[index, axis] > end[index, axis])[:, None]
    start, end = np.where(swapped, end, start), np.where(swapped, start, end)  # along the longer axis
    low, high = np.minimum(start[:, 0], end[:, 0]), np.maximum(start[:, 0], end[:, 0])
    first = np.maximum(-((2 - low) // SCALE), 0)
    last = np.minimum((high - 3) // SCALE, width - 1)
    counts = np.maximum(last - first + 1, 0)
    if counts.sum() > MAX_CROSSINGS:
        raise DataError("a polygon has too many edges across the whole image")
    edge = np.repeat(index, counts)
    column = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    return column, np.where(steep[edge], _steep(start[edge], end[edge], column), _flat(start[edge], end[edge], column))


def _flat(start: np.ndarray, end: np.ndarray, column: np.ndarray) -> np.ndarray:
    """The height of edges, at least as wide as high, where they cross the middle of a column: the smaller of two."""
    run = end - start
    slope = run[:, 1] / np.maximum(run[:, 0], 1)
    steps = SCALE * column + 2 - start[:, 0]
    before, after = (np.trunc(start[:, 1] + slope * (steps + more) + 0.5) for more in (0, 1))
    return np.minimum(before, after)


def _steep(start: np.ndarray, end: np.ndarray, column: np.ndarray) -> np.ndarray:
    """As `_flat`, for edges that are higher than wide: the last step before the middle of the column is crossed."""
    run = end - start
    slope = run[:, 0] / np.maximum(run[:, 1], 1)
    rising = run[:, 0] > 0
    border = SCALE * column + 3

    def crossed(steps: np.ndarray) -> np.ndarray:
        cells = np.trunc(start[:, 0] + slope * steps + 0.5)
        return np.where(rising, cells >= border, cells < border)

    with np.errstate(divide="ignore", invalid="ignore"):
        guess = np.ceil(np.nan_to_num((border - 0.5 - start[:, 0]) / slope))
    for _ in range(2):  # the quotient may be rounded to the next step
        guess = np.where(crossed(guess - 1), guess - 1, guess)
        guess = np.where(crossed(guess), guess, guess + 1)
    return start[:, 1] + guess - 1


def polygons(rings: Iterable[np.ndarray], size: Size, holes: Iterable[np.ndarray] = ()) -> Region:
    """The union of several polygons without the `holes`."""
    joined = union([polygon(ring, size) for ring in rings])
    for ring in holes:
        hole = polygon(ring, size)
        if window := _overlap(joined, hole):
            joined.mask[window[0]] &= ~hole.mask[window[1]]
    return joined


def union(regions: Sequence[Region]) -> Region:
    """All pixels of several regions; the mask may be shared with the only one."""
    regions = [region for region in regions if region.mask.size]
    if len(regions) < 2:
        return regions[0] if regions else EMPTY
    top, left = min(region.top for region in regions), min(region.left for region in regions)
    bottom = max(region.top + region.mask.shape[0] for region in regions)
    right = max(region.left + region.mask.shape[1] for region in regions)
    mask = np.zeros((bottom - top, right - left), bool)
    for region in regions:
        height, width = region.mask.shape
        mask[region.top - top :, region.left - left :][:height, :width] |= region.mask
    return Region(top, left, mask)


def box(left: float, top: float, right: float, bottom: float, rotation: float = 0.0) -> np.ndarray:
    """The corners of a box (4, 2), turned by `rotation` degrees clockwise around its center."""
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)
    return turned(corners, corners.mean(axis=0), rotation)


def turned(points: np.ndarray, center: np.ndarray, degrees: float) -> np.ndarray:
    """`points` (N, 2), turned clockwise around `center`."""
    if not degrees:
        return points
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return (points - center) @ np.array([(cosine, sine), (-sine, cosine)]) + center


def ellipse(center: tuple[float, float], radii: tuple[float, float], size: Size, rotation: float = 0.0) -> Region:
    """The pixels whose centers are inside an ellipse; `center` and `radii` in x and y, `rotation` clockwise."""
    values = np.array([*center, *radii, rotation])
    if not np.isfinite(values).all() or np.abs(values).max() > MAX_COORDINATE or min(radii) < 0:
        raise DataError(f"a coordinate is not a number, negative, or beyond {MAX_COORDINATE:.0f}")
    reach = max(radii)
    left, right = (int(np.clip(center[0] + sign * reach, 0, size[1])) for sign in (-1, 1))
    top, bottom = (int(np.clip(center[1] + sign * reach, 0, size[0])) for sign in (-1, 1))
    right, bottom = min(right + 1, size[1]), min(bottom + 1, size[0])
    x = np.arange(left, right)[None, :] + 0.5 - center[0]
    y = np.arange(top, bottom)[:, None] + 0.5 - center[1]
    cosine, sine = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    along, across = x * cosine + y * sine, y * cosine - x * sine
    return Region(top, left, (along * radii[1]) ** 2 + (across * radii[0]) ** 2 <= (radii[0] * radii[1]) ** 2)


def runs(counts: np.ndarray, size: Size, columns_first: bool) -> Region:
    """Run lengths that begin with pixels outside; `columns_first` as in COCO, else row by row.

    Raises DataError if they do not add up to the pixels of `size`.
    """
    pixels = size[0] * size[1]
    if (len(counts) and (counts.min() < 0 or counts.max() > pixels)) or counts.sum() != pixels:
        raise DataError(f"its run lengths are not those of {size[0]} x {size[1]} pixels (height x width)")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return Region(0, 0, flat.reshape(size[::-1]).T if columns_first else flat.reshape(size))


def coco_counts(text: str) -> np.ndarray:
    """The run lengths in a compressed RLE of the COCO API. Raises DataError.

    Each number takes characters from "0" on with five bits each, the lowest first, and a sixth if more follow. From
    the fourth on, numbers are differences to the last but one.
    """
    data = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64) - 48
    if len(data) == 0 or data.min() < 0 or data.max() > 63 or data[-1] & 32:
        raise DataError("its compressed run lengths are damaged")
    ends = np.flatnonzero(data & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 12:
        raise DataError("its compressed run lengths are damaged")
    place = 5 * (np.arange(len(data)) - np.repeat(starts, lengths))
    numbers = np.add.reduceat((data & 31) << place, starts)
    numbers -= np.where(data[ends] & 16, 1 << 5 * lengths, 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def inside(region: Region, size: Size) -> Region:
    """The part of a region that is within an image of `size`."""
    window = _windows((0, 0), size, (region.top, region.left), region.mask.shape)
    if window is None:
        return EMPTY
    (rows, columns), own = window
    return Region(rows.start, columns.start, region.mask[own])


def _overlap(one: Region, other: Region) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """The windows of two masks that show the same pixels of the image."""
    return _windows((one.top, one.left), one.mask.shape, (other.top, other.left), other.mask.shape)


def _windows(
    corner: tuple[int, int], shape: tuple[int, ...], other_corner: tuple[int, int], other_shape: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    starts = [max(pair) for pair in zip(corner, other_corner, strict=True)]
    stops = [
        min(a + length, b + other_length)
        for a, length, b, other_length in zip(corner, shape, other_corner, other_shape, strict=True)
    ]
    if any(start >= stop for start, stop in zip(starts, stops, strict=True)):
        return None
    first, second = (
        tuple(slice(start - offset, stop - offset) for start, stop, offset in zip(starts, stops, place, strict=True))
        for place in (corner, other_corner)
    )
    return first, second  # type: ignore[return-value] # two slices
