"""Polygons, ellipses and run lengths as pixels: equal to pycocotools, to plain loops, and to point by point tests."""

import numpy as np
import pytest

from fastfcn.data.annotations.shapes import (
    EMPTY,
    Region,
    box,
    coco_counts,
    ellipse,
    inside,
    polygon,
    polygons,
    runs,
    union,
)
from fastfcn.errors import DataError
from tests.helpers.reference_polygons import fill_polygon


def full(region: Region, size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, bool)
    height, width = region.mask.shape
    mask[region.top : region.top + height, region.left : region.left + width] = region.mask
    return mask


def random_polygon(rng: np.random.Generator, kind: int) -> np.ndarray:
    """Fractions, whole numbers, halves, tiny ones, far outside, vertical edges."""
    count = int(rng.integers(3, 12))
    match kind % 6:
        case 0:
            return rng.uniform(-10, 70, (count, 2))
        case 1:
            return rng.integers(-5, 65, (count, 2)).astype(float)
        case 2:
            return np.round(rng.uniform(-10, 70, (count, 2)) * 2) / 2
        case 3:
            return rng.uniform(10, 13, (count, 2))
        case 4:
            return rng.uniform(-300, 300, (count, 2))
    points = np.round(rng.uniform(-5, 30, (count, 2)) * 5) / 5
    points[1] = points[0]
    points[2, 0] = points[1, 0]
    return points


def sizes(rng: np.random.Generator) -> tuple[int, int]:
    return int(rng.integers(1, 50)), int(rng.integers(1, 50))


def test_polygons_equal_plain_loops():
    rng = np.random.default_rng(0)
    for kind in range(240):
        points, size = random_polygon(rng, kind), sizes(rng)
        expected = fill_polygon(points.ravel().tolist(), size)
        assert (full(polygon(points, size), size) == expected).all(), (size, points.tolist())


def test_polygons_equal_pycocotools():
    reference = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    rng = np.random.default_rng(1)
    for kind in range(420):
        rings = [random_polygon(rng, kind + more) for more in range(1 + kind % 2)]
        size = sizes(rng)
        flat = [ring.ravel().tolist() for ring in rings]
        expected = reference.decode(reference.merge(reference.frPyObjects(flat, *size))).astype(bool)
        assert (full(polygons(rings, size), size) == expected).all(), (size, flat)


def test_a_polygon_on_the_borders_of_pixels_covers_these_pixels():
    """(0, 0) is the upper left corner of the upper left pixel."""
    region = polygon(box(2, 1, 5, 4), (6, 7))
    assert (region.top, region.left, region.mask.shape) == (1, 2, (3, 3))
    assert region.mask.all()
    assert polygon(box(2.6, 1.6, 3.4, 2.4), (6, 7)).mask.sum() == 0  # around a corner of four pixels


def test_a_polygon_that_crosses_itself_and_one_along_a_line():
    bow = polygon(np.array([(0, 0), (10, 10), (10, 0), (0, 10)], float), (10, 10))
    assert not full(bow, (10, 10))[1, 5]
    assert full(bow, (10, 10))[5, 1]
    assert polygon(np.array([(0, 0), (10, 10), (0, 0)], float), (10, 10)).mask.sum() == 0


def test_holes():
    outer, hole = box(1, 1, 9, 9), box(3, 4, 6, 8)
    expected = np.zeros((10, 12), bool)
    expected[1:9, 1:9] = True
    expected[4:8, 3:6] = False
    assert (full(polygons([outer], (10, 12), [hole, box(20, 20, 30, 30)]), (10, 12)) == expected).all()


def test_union_and_inside():
    one, other = Region(0, 0, np.ones((2, 2), bool)), Region(1, 3, np.ones((2, 1), bool))
    joined = union([one, EMPTY, other])
    assert joined.mask.astype(int).tolist() == [[1, 1, 0, 0], [1, 1, 0, 1], [0, 0, 0, 1]]
    cut = inside(Region(-1, 2, np.array([[1, 0], [1, 1]], bool)), (4, 3))
    assert (cut.top, cut.left, cut.mask.tolist()) == (0, 2, [[True]])
    assert inside(Region(9, 9, np.ones((2, 2), bool)), (4, 3)).mask.size == 0


@pytest.mark.parametrize("rotation", [0, 30, 90, 200])
def test_ellipses_contain_the_centers_of_pixels_in_them(rotation: float):
    size, center, radii = (20, 30), (12.3, 9.1), (8.0, 4.5)
    expected = np.zeros(size, bool)
    turn = np.radians(rotation)
    for y in range(size[0]):
        for x in range(size[1]):
            dx, dy = x + 0.5 - center[0], y + 0.5 - center[1]
            along, across = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
            expected[y, x] = (along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1
    assert (full(ellipse(center, radii, size, rotation), size) == expected).all()
    assert not ellipse((500.0, -70.0), radii, size, rotation).mask.any()


def test_a_box_turns_clockwise_around_its_center():
    turned = box(0, 0, 4, 2, rotation=90)
    assert np.allclose(turned, [(3, -1), (3, 3), (1, 3), (1, -1)])


def test_run_lengths():
    mask = runs(np.array([1, 2, 3]), (2, 3), columns_first=True).mask
    assert mask.astype(int).tolist() == [[0, 1, 0], [1, 0, 0]]
    mask = runs(np.array([0, 1, 4, 1]), (2, 3), columns_first=False).mask
    assert mask.astype(int).tolist() == [[1, 0, 0], [0, 0, 1]]


def test_compressed_run_lengths_equal_pycocotools():
    reference = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    rng = np.random.default_rng(2)
    for _ in range(200):
        size = sizes(rng)
        mask = rng.random(size) < rng.random()
        text = reference.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        assert (runs(coco_counts(text), size, columns_first=True).mask == mask).all()


def test_compressed_run_lengths_by_hand():
    """5; 37 in two characters; 2; and 4 as the difference -33 to 37, in two characters."""
    assert coco_counts("5U12on0"[:4] + "").tolist() == [5, 37, 2]
    assert coco_counts("5U12on"[:4] + "oN").tolist() == [5, 37, 2, 4]


@pytest.mark.parametrize("text", ["", "!", "o", "ooooooooooooooo0", "5é", "\x00"])
def test_damaged_compressed_run_lengths(text: str):
    with pytest.raises(DataError, match="damaged"):
        coco_counts(text)


@pytest.mark.parametrize("counts", [[3, 4], [-1, 7], [7], [2**62, 2**62, 6], []])
def test_run_lengths_of_another_size(counts: list[int]):
    with pytest.raises(DataError, match="run lengths are not those of 2 x 3 pixels"):
        runs(np.array(counts, np.int64), (2, 3), columns_first=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e30, 1e7])
def test_coordinates_that_are_none(value: float):
    with pytest.raises(DataError, match="coordinate"):
        polygon(np.array([(0, 0), (value, 1), (5, 5)], float), (9, 9))
    with pytest.raises(DataError, match="coordinate"):
        ellipse((value, 1.0), (2.0, 2.0), (9, 9))


def test_far_too_many_edges_take_no_memory():
    zigzag = np.tile(np.array([(0.0, 5.0), (60_000.0, 9.0)]), (2000, 1))
    with pytest.raises(DataError, match="too many edges"):
        polygon(zigzag, (20, 60_000))
