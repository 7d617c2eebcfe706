"""Drawn street scenes: the built-in data set of the demo and the tests, with exact labels and nothing to download."""

from fastfcn.data.streets.painting import draw
from fastfcn.data.streets.writing import write

__all__ = ["draw", "write"]
