"""C++ operators for CPUs, from the wheel or compiled on first use (README.md); else plain PyTorch is used."""

from fastfcn.kernels.loading import available

__all__ = ["available"]
