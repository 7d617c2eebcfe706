"""C++ operators for CPUs, compiled on first use (README.md); without a compiler plain PyTorch is used instead."""

from fastfcn.kernels.build import available

__all__ = ["available"]
