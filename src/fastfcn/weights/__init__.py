"""Weights: the file format, published checkpoints, pretrained backbones, and the Hugging Face Hub."""

from fastfcn.weights.file import Weights, load_model, made, read, read_tensors, save, write_tensors

__all__ = ["Weights", "load_model", "made", "read", "read_tensors", "save", "write_tensors"]
