"""Drawn street scenes with exact labels: the built-in data set of the demo and the tests."""

from fastfcn.demo.streets.painting import draw
from fastfcn.demo.streets.writing import write

__all__ = ["draw", "write"]
