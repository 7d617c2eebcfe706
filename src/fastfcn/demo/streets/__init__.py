"""Procedurally drawn street scenes with exact labels: the built-in dataset of the demo and the tests."""

from fastfcn.demo.streets.dataset import draw, write_dataset

__all__ = ["draw", "write_dataset"]
