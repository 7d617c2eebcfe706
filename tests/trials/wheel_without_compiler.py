"""Test an installed wheel: without a compiler its own kernels run, and predict what plain PyTorch predicts.

FASTFCN_BUILD_KERNELS=1 pip install --no-build-isolation .
python -m tests.trials.wheel_without_compiler
"""

import os
import shutil
import tempfile
from pathlib import Path

import torch

import fastfcn
from fastfcn import kernels
from tests.helpers.tiny import SIZE, tiny_model


def main() -> None:
    os.environ.pop("CXX", None)
    os.environ.pop("FASTFCN_KERNELS", None)
    os.environ["PATH"] = ""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCH_EXTENSIONS_DIR"] = cache  # nothing that was built before
        assert shutil.which("c++") is None
        assert kernels.available(), "the wheel has no kernels for this CPU and torch"
        assert not list(Path(cache).iterdir())
    model = tiny_model("neck.width=32")
    images = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = model.labels(images)
        fast = fastfcn.optimize(model)
        assert type(fast).__name__ == "FastSegmenter"
        labels = fast.labels(images)
    assert torch.equal(labels, expected), f"{(labels != expected).sum()} pixels differ"
    assert len(expected.unique()) > 1
    print(f"The kernels of {fastfcn.__file__} run without a compiler.")


if __name__ == "__main__":
    main()
