"""Convolutions and class maps in C++ for processors, built on first use; without a compiler plain PyTorch does it."""

from fastfcn.kernels.build import available

__all__ = ["available"]
