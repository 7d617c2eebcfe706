"""What some tests need of a machine; they are skipped where it is not there."""

import pytest

from fastfcn import kernels

KERNELS = pytest.mark.skipif(not kernels.available(), reason="the kernels could not be built here")
