"""The Triton kernel for labels, in Triton's interpreter on a CPU, against the plain resize."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

from fastfcn.ops.upsample import upsample_labels

pytest.importorskip("triton", reason="torch brings Triton on Linux alone")
NAME = "fastfcn.kernels.labels_triton"


@pytest.fixture(scope="module")
def interpreted() -> Iterator[ModuleType]:
    """The module, imported with Triton's interpreter enabled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        sys.modules.pop(NAME, None)
        module = importlib.import_module(NAME)
        try:
            module.upsample_labels(torch.zeros(1, 2, 2, 2), 4, 4, False)
        except Exception as error:
            if "only 0-dimensional arrays" not in str(error):
                raise
            pytest.skip("Triton's interpreter is older than this numpy, as Triton 3.6 with numpy 2.4")
        yield module
    sys.modules.pop(NAME, None)


@pytest.mark.parametrize(
    ("classes", "align_corners"),
    [(1, False), (1, True), (2, False), (2, True), (19, False), (19, True), (150, True)],  # the last takes a minute
)
def test_labels(interpreted: ModuleType, classes: int, align_corners: bool):
    torch.manual_seed(classes)
    for batch, rows, columns, size in ((2, 5, 7, (11, 13)), (1, 1, 4, (3, 300)), (1, 6, 1, (2, 5))):
        logits = torch.randn(batch, classes, rows, columns)
        layouts = logits, logits.contiguous(memory_format=torch.channels_last)
        contiguous, channels_last = (interpreted.upsample_labels(layout, *size, align_corners) for layout in layouts)
        assert torch.equal(contiguous, channels_last)
        assert contiguous.dtype == torch.uint8
        full = F.interpolate(logits.double(), size, mode="bilinear", align_corners=align_corners)
        chosen = full.gather(1, contiguous.long()[:, None])[:, 0]
        assert (full.amax(1) - chosen).max() < 1e-5, "a class whose logit is not the highest"
        assert (contiguous == upsample_labels(logits, [size], align_corners)).float().mean() > 0.99


def test_half_precision_and_parts_of_maps(interpreted: ModuleType):
    logits = torch.randn(1, 5, 9, 12, generator=torch.Generator().manual_seed(0))
    for half in (torch.bfloat16, torch.float16):
        part = logits.to(half)[:, 1:, 2:, ::2]
        assert torch.equal(
            interpreted.upsample_labels(part, 20, 30, False), interpreted.upsample_labels(part.float(), 20, 30, False)
        )


def test_of_equal_scores_the_lowest_class(interpreted: ModuleType):
    logit = torch.randn(1, 1, 4, 5, generator=torch.Generator().manual_seed(1))
    actual = interpreted.upsample_labels(torch.cat([logit - 1, logit, logit, logit - 2], dim=1), 8, 9, False)
    assert torch.equal(actual, torch.ones_like(actual))


def test_too_many_classes(interpreted: ModuleType):
    with pytest.raises(ValueError, match="at most 256 classes, not 257"):
        interpreted.upsample_labels(torch.zeros(1, 257, 2, 2), 4, 4, False)


@pytest.mark.parametrize("align_corners", [False, True])
def test_sizes_of_one_compile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, align_corners: bool):
    """Compiled for a GPU, which need not be there: Triton turns arguments of 1 into constants unless told not to."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.compiler import compile as compile_kernel

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    kernel = importlib.import_module(NAME)._upsample_labels
    sys.modules.pop(NAME)
    constants = {"align_corners": align_corners, "pixels": 256}
    types = {"logits": "*bf16", "out": "*u8"}
    for parameter in kernel.params:
        if parameter.name not in types | constants:
            types[parameter.name] = "i32"
            if not parameter.do_not_specialize:
                constants[parameter.name] = 1
    signature = {name: "constexpr" if name in constants else types[name] for name in kernel.arg_names}
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    compiled = compile_kernel(ASTSource(kernel, signature, places), target=GPUTarget("cuda", 90, 32))
    assert compiled.asm["cubin"]
