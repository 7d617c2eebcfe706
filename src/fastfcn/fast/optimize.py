"""The network as it is run for predictions: equal to `model.eval()` to rounding, in less time and memory."""

from typing import Any

import torch
from timm.models import FeatureListNet
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from fastfcn import kernels
from fastfcn.fast.blocks import FastBlock, residual_stage
from fastfcn.fast.cuda import GPUSegmenter, Recordings, record_cuda_graph
from fastfcn.fast.enc_head import make_fast
from fastfcn.fast.fold import folded
from fastfcn.fast.layers import (
    FAST_CONVOLUTIONS,
    FastContextBottleneck,
    FastJPU,
    FastMaxPool,
    FastStem,
    OneDNNConvolution,
    PointwiseConvolution,
    WinogradConvolution,
    convolution,
)
from fastfcn.fast.lean_training import LeanConv2d
from fastfcn.kernels.arena import Arena
from fastfcn.kernels.packing import lanes
from fastfcn.models.heads import EncHead
from fastfcn.models.jpu import JPU
from fastfcn.models.layers import ContextBottleneck, ConvBNReLU
from fastfcn.models.segmenter import KernelSegmenter, Segmenter
from fastfcn.ops.pyramid import tap_matrix


class FastSegmenter(KernelSegmenter):
    """A network whose class map comes from the kernels where it can, and its memory from their arena."""

    def logits(self, images: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return super().logits(images)
        with Arena():
            return super().logits(images)

    def kernel_labels(self, logits: Tensor, height: int, width: int) -> Tensor:
        return torch.ops.fastfcn.upsample_labels(logits, height, width, self.align_corners)


@torch.no_grad()
def optimize(model: Segmenter, in_place: bool = False) -> Segmenter:
    """A network for inference that gives the logits of `model.eval()` to rounding.

    Batch norms are folded into convolutions, the auxiliary head is gone, and on a processor convolutions, JPU and
    class map go through the kernels of `fastfcn.kernels` (float32 only; plain PyTorch where they cannot be built). On
    an NVIDIA GPU class maps come from CUDA graphs, one for each size, and a Triton kernel, in autocast's precision.
    With `in_place` the `model` itself is used up, which saves the memory of a second one.
    """
    fast: Segmenter = folded(model, in_place).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fast.auxiliary = None
    device = next(fast.parameters()).device.type
    if device == "cuda":
        fast.__class__ = GPUSegmenter
        fast.recordings = Recordings(fast.logits, record_cuda_graph)  # type: ignore[assignment]
    if device != "cpu":
        return fast
    compiled = kernels.available()
    if compiled and type(fast.neck) is JPU and _in_slices(fast.neck):
        fast.neck = _jpu(fast.neck, _taken_from(fast.head))
    _replace(fast, compiled)
    _join_with_convolutions(fast.backbone)
    if compiled:
        _join_stem(fast.backbone)
        fast.__class__ = FastSegmenter
    return fast


def _replace(parent: nn.Module, compiled: bool) -> None:
    """Put fast layers in the place of all convolutions below `parent`."""
    for name, child in list(parent.named_children()):
        match child:
            case ContextBottleneck():
                setattr(parent, name, _context(child, compiled))
            case ConvBNReLU() if type(child.bn) is nn.Identity:
                setattr(parent, name, convolution(child.conv, hasattr(child, "relu"), compiled))
            case nn.MaxPool2d() if compiled and _is_a_stems(child):
                setattr(parent, name, FastMaxPool())
            case EncHead() if compiled:
                _replace(child, compiled)
                make_fast(child)
            case nn.Sequential() if len(child) and all(_is_residual_block(each) for each in child):
                setattr(parent, name, residual_stage([_block(each, compiled) for each in child]))
            case nn.Conv2d() if type(child) in (nn.Conv2d, LeanConv2d) and not isinstance(parent, EncHead):
                setattr(parent, name, convolution(child, False, compiled))  # Enc scales its classifier's own weight
            case _:
                _replace(child, compiled)


def _join_with_convolutions(row: nn.Module) -> nn.Module | None:
    """Have each ReLU right behind a convolution done in its pass, in modules that run one after the other; and a stem's
    max pooling, where that can be done.

    Returns the module that computes the last result of `row`, None where it is not known.
    """
    if not isinstance(row, nn.Sequential | FeatureListNet):
        return row
    before = None
    for name, child in list(row.named_children()):
        if type(child) is nn.ReLU and isinstance(before, FAST_CONVOLUTIONS):
            before.relu = True
            setattr(row, name, nn.Identity())
        elif type(child) is FastMaxPool and isinstance(before, WinogradConvolution) and before.can_pool():
            before.pooled = True
            setattr(row, name, nn.Identity())
            before = None
        elif type(child) is not nn.Identity:
            before = _join_with_convolutions(child)
        if name in getattr(row, "return_layers", ()):
            before = None  # a map of its own
    return before


def _join_stem(row: nn.Module) -> None:
    """Have the first convolution of a backbone done by the stem's operator, and the pooling right behind it as well."""
    if not isinstance(row, FeatureListNet):
        return
    first = None
    for name, child in row.named_children():
        if first is None and isinstance(child, nn.Sequential) and len(child) and _reads_an_image(child[0]):
            child[0] = FastStem(child[0], pool=False)  # type: ignore[arg-type]
        if type(child) is FastMaxPool and first is not None and _reads_an_image(row[first]):
            row[first], row[name] = FastStem(row[first], pool=True), nn.Identity()  # type: ignore[arg-type]
        if (first is not None and type(child) is not nn.Identity) or name in row.return_layers:
            return
        first = first or name


def _reads_an_image(conv: nn.Module) -> bool:
    """Whether it is a convolution that the operator of a stem can do."""
    if type(conv) is not OneDNNConvolution:
        return False
    outputs, inputs, height, width = conv.weight.shape
    half = width // 2
    plain = conv.settings == ([half, half], [2, 2], [1, 1], 1) and conv.relu
    return plain and height == width and width % 2 == 1 and inputs == 3 and outputs % (2 * lanes()) == 0


def _in_slices(neck: JPU) -> bool:
    return all(layer.conv.out_channels % lanes() == 0 for layer in neck.lateral)  # type: ignore[union-attr]


def _taken_from(head: nn.Module) -> PointwiseConvolution | None:
    """The 1x1 convolution with which the Enc head begins, if it does, which is gone from there."""
    if type(head) is not EncHead:
        return None
    conv = head.bottleneck.conv
    if conv.kernel_size != (1, 1) or conv.out_channels % lanes() != 0:
        return None
    taken = PointwiseConvolution(conv, True)
    head.bottleneck = nn.Identity()  # type: ignore[assignment]
    return taken


def _jpu(neck: Any, following: PointwiseConvolution | None) -> FastJPU:
    lateral = [convolution(layer.conv, True, True) for layer in neck.lateral]
    separable = [(branch.depthwise.conv, branch.pointwise.conv) for branch in neck.dilated]
    return FastJPU(lateral, separable, neck.align_corners, following)


def _context(layer: Any, compiled: bool) -> FastContextBottleneck:
    full, pooled = layer.parts()
    kernel = layer.conv.kernel_size[0]
    direct = nn.Conv2d(full.shape[1], full.shape[0], kernel, padding=layer.conv.padding, device="meta")
    direct.weight, direct.bias = nn.Parameter(full.contiguous()), layer.conv.bias
    return FastContextBottleneck(
        convolution(direct, True, compiled), [tap_matrix(each).contiguous() for each in pooled], kernel
    )


def _is_a_stems(pool: nn.MaxPool2d) -> bool:
    settings = pool.kernel_size, pool.stride, pool.padding, pool.dilation
    return settings == (3, 2, 1, 1) and not pool.ceil_mode and not pool.return_indices


def _is_residual_block(block: Any) -> bool:
    """Whether it is one of timm's ResNet blocks with nothing more than convolutions, folded norms and ReLUs."""
    if type(block) not in (BasicBlock, Bottleneck):
        return False
    plain = all(getattr(block, name, None) is None for name in ("se", "drop_path"))
    gone = (getattr(block, name, nn.Identity()) for name in ("aa", "drop_block", "bn1", "bn2", "bn3"))
    nothing = all(type(each) is nn.Identity for each in gone)
    shortcut = block.downsample
    simple = shortcut is None or (len(shortcut) == 2 and type(shortcut[1]) is nn.Identity)
    return plain and nothing and simple and isinstance(block.act1, nn.ReLU)


def _block(block: Any, compiled: bool) -> FastBlock:
    layers = [block.conv1, block.conv2] + ([block.conv3] if hasattr(block, "conv3") else [])
    shortcut = None if block.downsample is None else convolution(block.downsample[0], False, compiled)
    return FastBlock([convolution(each, True, compiled) for each in layers], shortcut)
