"""Requirements of some tests, which are skipped on machines without them."""

import pytest

from fastfcn import kernels

KERNELS = pytest.mark.skipif(not kernels.available(), reason="the kernels could not be built here")
