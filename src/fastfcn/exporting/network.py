"""The network in the form that is exported: images to labels, built from standard operators only."""

from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as shape_settings
from torch.utils._sympy.value_ranges import ValueRanges

from fastfcn.errors import UserError
from fastfcn.exporting.dynamic_sizes import DynamicSizes
from fastfcn.fast.fold_batch_norm import fold_batch_norms
from fastfcn.models.segmenter import Segmenter
from fastfcn.ops.upsample import label_type
from fastfcn.recipes.recipe import Recipe

TRACED = (64, 96)  # (height, width) of the traced image; files are verified at other sizes
CHECKS = (torch.ops.aten._assert_scalar.default, torch.ops.aten._assert_tensor_metadata.default)


class ImageToClasses(nn.Module):
    """Images (B, H, W, C), RGB uint8 or bands in float32, to labels (B, H, W), uint8 (int64 beyond 256 classes).

    With `with_logits` also to logits (B, classes, H, W), float32, before softmax.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Segmenter, recipe: Recipe, with_logits: bool):
        super().__init__()
        self.model, self.with_logits = exportable(model), with_logits
        self.register_buffer("mean", torch.tensor(recipe.data.mean).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(recipe.data.std).reshape(1, -1, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        pixels = (image.permute(0, 3, 1, 2).float() - self.mean) / self.std
        low = self.model.logits(pixels).contiguous()  # ExecuTorch cannot compute argmax of channels-last maps
        logits = F.interpolate(low, pixels.shape[-2:], mode="bilinear", align_corners=self.model.align_corners)
        labels = logits.argmax(1).to(label_type(logits.shape[1]))
        return (labels, logits) if self.with_logits else (labels,)


class EvenPool(nn.Module):
    """Replacement for `nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)`.

    AOTInductor (torch 2.15), compiled for dynamic sizes, computes garbage (1e19) with the original at odd sizes;
    OpenVINO 2026.4 rejects maps of one pixel. Averaging over the pixels of an incomplete window at the edge is the
    same as averaging over a full window after repeating the edge.
    """

    def forward(self, maps: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(maps, (0, 1, 0, 1), mode="replicate"), 2, 2)


def exportable(model: Segmenter) -> Segmenter:
    """A copy of the network without the auxiliary head and with batch norms folded; equal up to rounding."""
    copy = fold_batch_norms(model)
    copy.auxiliary = None
    for parent in list(copy.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.AvgPool2d) and _is_even_pool(child):
                setattr(parent, name, EvenPool())
    return copy


def _is_even_pool(pool: nn.AvgPool2d) -> bool:
    sizes = [pool.kernel_size, pool.stride]
    twos = all(size in (2, (2, 2)) for size in sizes)
    return twos and pool.padding in (0, (0, 0)) and pool.ceil_mode and not pool.count_include_pad


def trace(model: Segmenter, recipe: Recipe, with_logits: bool) -> ExportedProgram:
    """Trace the program for any batch size, height and width. Raises UserError if torch is too old."""
    check_torch()
    from torch.fx.experimental.dynamic_spec import ParamsSpec, ShapeVar, TensorSpec

    # Unbacked sizes: torch assumes nothing about them. With `Dim` it assumes that no feature map has a height of one,
    # which 32 pixels have at stride 32, and for some networks that there is more than one image.
    dynamic = TensorSpec([ShapeVar(name, min=1) for name in ("batch", "height", "width")] + [recipe.channels])
    program = ImageToClasses(model, recipe, with_logits).eval()
    with torch.no_grad(), DynamicSizes():
        return torch.export.export(
            program, (_example(2, recipe),), dynamic_shapes=ParamsSpec({"image": dynamic}), strict=False
        )  # fmt: skip


def trace_backed(
    model: Segmenter, recipe: Recipe, with_logits: bool, largest: tuple[int, int] | None = None
) -> ExportedProgram:
    """Trace the program for AOTInductor and ExecuTorch, which do not support unbacked sizes.

    torch then assumes that no feature map has a height of one (hence at least 33 pixels) and that there are several
    images, and adds checks for it. These are removed: nothing in the networks depends on them, and files are verified
    with smaller and with single images. With `largest` (height, width) the program takes one image at a time, up to
    that size.
    """
    bounds: tuple[int | None, ...] = largest or (None, None)
    dynamic = {index + 1: Dim(("height", "width")[index], min=33, max=bounds[index]) for index in range(2)}
    if not largest:
        dynamic[0] = Dim("batch", min=1)
    program = ImageToClasses(model, recipe, with_logits).eval()
    settings: Any = shape_settings
    with torch.no_grad(), settings.patch(backed_size_oblivious=True):
        traced = torch.export.export(
            program, (_example(1 if largest else 2, recipe),), dynamic_shapes={"image": dynamic}, strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )  # fmt: skip
    return _without_checks(traced)


def _without_checks(program: ExportedProgram) -> ExportedProgram:
    for node in reversed(program.graph.nodes):
        if node.op == "call_function" and node.target in CHECKS:
            program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()
    for name, bounds in program.range_constraints.items():
        program.range_constraints[name] = ValueRanges(1, bounds.upper)
    return program


def _example(batch: int, recipe: Recipe) -> Tensor:
    dtype = torch.float32 if recipe.data.bands else torch.uint8
    return torch.zeros(batch, *TRACED, recipe.channels, dtype=dtype)


def check_torch() -> None:
    """Raise UserError if the installed torch cannot trace networks for dynamic sizes."""
    if find_spec("torch.fx.experimental.dynamic_spec") is None:
        raise UserError(
            f"Exporting needs torch 2.15 or newer; torch {torch.__version__} is installed.",
            "Upgrade torch. Running exported files does not need it.",
        )
