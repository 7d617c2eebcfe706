"""Polygons: filling them gives the segmentation map, and there is one per region."""

import itertools

import numpy as np
import pytest

from fastfcn.prediction.polygons import Polygon, edge_count, polygons


def drawn(shapes: list[Polygon], size: tuple[int, int]) -> np.ndarray:
    """Each polygon filled by the even-odd rule, row by row; every pixel by exactly one polygon."""
    label = np.full(size, -1)
    for shape in shapes:
        crossings = np.zeros((size[0], size[1] + 1), int)
        for ring in (shape.outline, *shape.holes):
            assert (ring[0] == ring[-1]).all()
            for (x, y), (right, below) in itertools.pairwise(ring):
                assert (x == right) != (y == below)
                if x == right:
                    crossings[min(y, below) : max(y, below), x] ^= 1
        inside = np.bitwise_xor.accumulate(crossings, axis=1)[:, :-1].astype(bool)
        assert (label[inside] == -1).all()
        label[inside] = shape.index
    return label


def regions(label: np.ndarray) -> int:
    """Number of 4-connected regions, by flood fill."""
    left, count = set(np.ndindex(label.shape)), 0
    while left:
        count += 1
        todo = [left.pop()]
        while todo:
            row, column = todo.pop()
            neighbors = {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)} & left
            same = {pixel for pixel in neighbors if label[pixel] == label[row, column]}
            left -= same
            todo += same
    return count


@pytest.mark.parametrize("seed", range(60))
def test_drawn_again_they_are_the_class_map(seed: int):
    generator = np.random.default_rng(seed)
    label = generator.integers(0, generator.integers(1, 5), generator.integers(1, 14, 2)).astype(np.uint8)
    if seed % 3 == 0:
        label = label.repeat(2, 0).repeat(3, 1)
    shapes = polygons(label)
    assert np.array_equal(drawn(shapes, label.shape), label)
    assert len(shapes) == regions(label)
    rings = [ring for shape in shapes for ring in (shape.outline, *shape.holes)]
    assert edge_count(label) == sum(np.abs(np.diff(ring, axis=0)).sum() for ring in rings)


def test_a_hole_belongs_to_the_region_around_it():
    label = np.zeros((7, 9), np.uint8)
    label[1:6, 1:8] = 1
    label[2:5, 2:4] = label[2:4, 5:7] = 2
    label[3, 2] = 1  # an island? no: it touches the ring
    label[3:4, 3:4] = 3
    shapes = {shape.index: shape for shape in polygons(label)}
    assert [len(shapes[index].holes) for index in (0, 1)] == [1, 2]
    assert shapes[0].outline.tolist() == [[9, 0], [9, 7], [0, 7], [0, 0], [9, 0]]
    assert shapes[0].holes[0].min() == 1
