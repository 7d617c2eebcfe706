"""Weights: the file format, checkpoint conversion, pretrained weights, and the Hugging Face Hub."""

from fastfcn.weights.file import Weights, load_model, read, read_tensors, save, write_tensors

__all__ = ["Weights", "load_model", "read", "read_tensors", "save", "write_tensors"]
