"""The fast form of a network for inference: equal to `model.eval()` up to rounding, in less time and memory."""

from typing import Any

import torch
from timm.models import FeatureListNet
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from fastfcn import kernels
from fastfcn.fast.cpu_enc_head import use_kernels
from fastfcn.fast.cpu_layers import (
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
from fastfcn.fast.cpu_mobile import fast_block, fuse_mobile_stem
from fastfcn.fast.cpu_resnet import FastBlock, residual_stage
from fastfcn.fast.cpu_training import SubsampledConv2d, WinogradConv2d
from fastfcn.fast.cuda_graphs import GPUSegmenter, GraphCache, capture_cuda_graph, keep_half_weights
from fastfcn.fast.fold_batch_norm import fold_batch_norms
from fastfcn.fast.probing import fix_convolutions, is_equivalent, probe_images, shallow_copy
from fastfcn.kernels.arena import Arena
from fastfcn.kernels.packing import lanes
from fastfcn.models.heads import EncHead, EncSkipHead
from fastfcn.models.jpu import JPU
from fastfcn.models.layers import ContextBottleneck, ConvBNReLU
from fastfcn.models.segmenter import KernelSegmenter, Segmenter
from fastfcn.ops.pyramid import tap_matrix
from fastfcn.utils.modules import change_class, to_channels_last
from fastfcn.utils.progress import warn


class FastSegmenter(KernelSegmenter):
    """A network whose segmentation maps come from a CPU kernel, and its activations from the kernels' memory arena."""

    def logits(self, images: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return super().logits(images)
        with Arena():
            return super().logits(images)

    def kernel_labels(self, logits: Tensor, height: int, width: int) -> Tensor:
        return torch.ops.fastfcn.upsample_labels(logits, height, width, self.align_corners)


@torch.no_grad()
def optimize(
    model: Segmenter, in_place: bool = False, autocast: torch.dtype | None = None, fuse: bool = True
) -> Segmenter:
    """A network for inference whose logits are those of `model.eval()` up to rounding.

    Batch norms are folded into convolutions and the auxiliary head is removed. On a CPU, convolutions, JPU and
    segmentation map use `fastfcn.kernels` (float32 only; plain PyTorch if they cannot be built). On an NVIDIA GPU,
    segmentation maps come from CUDA graphs, one for each input size, and a Triton kernel, in autocast's precision.
    `in_place`: change `model` itself and return it, which saves the memory of a copy. `autocast`: the dtype of autocast
    in which the network will run; on a GPU its weights are then kept in that dtype. `fuse`: compute JPU and the Enc
    head as one operator each; tiles with the context of the whole image (`fastfcn.ops.tiling`) need single layers.
    """
    fast = fold_batch_norms(model, in_place)
    to_channels_last(fast)
    fast.auxiliary = None
    device = next(fast.parameters()).device.type
    if device == "cuda":
        change_class(fast, GPUSegmenter)
        fast.graphs = GraphCache(fast.logits, capture_cuda_graph)  # type: ignore[assignment]
        if autocast is not None:
            keep_half_weights(fast, autocast)
    return _optimize_for_cpu(fast, fuse) if device == "cpu" else fast


def _optimize_for_cpu(fast: Segmenter, fuse: bool) -> Segmenter:
    for module in fast.modules():
        if type(module) is SubsampledConv2d:  # for training only
            change_class(module, nn.Conv2d)
    if _is_known(fast.backbone):
        return _with_fast_layers(fast, fuse)
    images = probe_images(fast.backbone)
    fix_convolutions(fast.backbone, images)
    plain, expected = shallow_copy(fast.backbone), list(fast.backbone(images))
    fast = _with_fast_layers(fast, fuse)
    if not is_equivalent(fast.backbone, images, expected):
        warn("The optimized form of this backbone differs from the original, which is used instead.")
        fast.backbone = plain
    return fast


def _with_fast_layers(fast: Segmenter, fuse: bool) -> Segmenter:
    compiled = kernels.available()
    if compiled and fuse and type(fast.neck) is JPU and _fills_vectors(fast.neck):
        inner = fast.head.enc if isinstance(fast.head, EncSkipHead) else fast.head
        fast.neck = _jpu(fast.neck, _detach_first_convolution(inner))
    if compiled:
        fuse_mobile_stem(fast.backbone)
    _replace(fast, compiled, fuse)
    _fuse_activations(fast.backbone)
    if compiled:
        _fuse_stem(fast.backbone)
        change_class(fast, FastSegmenter)
    return fast


def _is_known(part: nn.Module) -> bool:
    """Whether this is a ResNet: residual blocks and single layers, all in sequence."""
    if isinstance(part, nn.Sequential | FeatureListNet):
        return all(map(_is_known, part.children()))
    return not list(part.children()) or _is_residual_block(part)


def _replace(parent: nn.Module, compiled: bool, fuse: bool) -> None:
    """Replace all convolutions below `parent` by fast layers."""
    for name, child in list(parent.named_children()):
        match child:
            case ContextBottleneck():
                setattr(parent, name, _context(child, compiled))
            case ConvBNReLU() if type(child.bn) is nn.Identity:
                setattr(parent, name, convolution(child.conv, hasattr(child, "relu"), compiled))
            case nn.MaxPool2d() if compiled and _is_stem_pooling(child):
                setattr(parent, name, FastMaxPool())
            case EncHead() if compiled and fuse:
                _replace(child, compiled, fuse)
                use_kernels(child)
            case nn.Sequential() if len(child) and all(_is_residual_block(block) for block in child):
                setattr(parent, name, residual_stage([_block(block, compiled) for block in child]))
            case nn.Conv2d() if type(child) in (nn.Conv2d, WinogradConv2d) and not isinstance(parent, EncHead):
                setattr(parent, name, convolution(child, False, compiled))  # the Enc head reads its classifier's weight
            case _:
                block = fast_block(child) if compiled else None
                if block is None:
                    _replace(child, compiled, fuse)
                else:
                    setattr(parent, name, block)


def _fuse_activations(row: nn.Module) -> nn.Module | None:
    """Fuse each ReLU into the convolution right before it, in modules that run in sequence, and a stem's max pooling.

    Returns the module that computes the output of `row`, None if it is unknown.
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
            before = _fuse_activations(child)
        if name in getattr(row, "return_layers", ()):
            before = None  # its output is also a map of the backbone
    return before


def _fuse_stem(row: nn.Module) -> None:
    """Replace the first convolution of a backbone, and max pooling right after it, by the stem operator."""
    if not isinstance(row, FeatureListNet):
        return
    first = None
    for name, child in row.named_children():
        if first is None and isinstance(child, nn.Sequential) and len(child) and _is_stem_convolution(child[0]):
            child[0] = FastStem(child[0].weight, child[0].bias, pool=False)  # type: ignore[arg-type]
        if type(child) is FastMaxPool and first is not None and _is_stem_convolution(row[first]):
            row[first], row[name] = FastStem(row[first].weight, row[first].bias, pool=True), nn.Identity()  # type: ignore[arg-type]
        if (first is not None and type(child) is not nn.Identity) or name in row.return_layers:
            return
        first = first or name


def _is_stem_convolution(conv: nn.Module) -> bool:
    """Whether the stem operator supports it: 3 input channels, odd kernel, stride 2, "same" padding, ReLU."""
    if type(conv) is not OneDNNConvolution:
        return False
    outputs, inputs, height, width = conv.weight.shape
    half = width // 2
    plain = conv.settings == ([half, half], [2, 2], [1, 1], 1) and conv.relu
    return plain and height == width and width % 2 == 1 and inputs == 3 and outputs % (2 * lanes()) == 0


def _fills_vectors(neck: JPU) -> bool:
    """Whether the width of JPU is a multiple of the CPU's vector length, as its operator requires."""
    return all(layer.conv.out_channels % lanes() == 0 for layer in neck.lateral)  # type: ignore[union-attr]


def _detach_first_convolution(head: nn.Module) -> PointwiseConvolution | None:
    """Remove the 1x1 convolution at the start of an Enc head and return it; None if there is none."""
    if type(head) is not EncHead:
        return None
    conv = head.bottleneck.conv
    if conv.kernel_size != (1, 1) or conv.out_channels % lanes() != 0:
        return None
    head.bottleneck = nn.Identity()  # type: ignore[assignment]
    return PointwiseConvolution(conv, True)


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
        convolution(direct, True, compiled), [tap_matrix(weight).contiguous() for weight in pooled], kernel
    )


def _is_stem_pooling(pool: nn.MaxPool2d) -> bool:
    settings = pool.kernel_size, pool.stride, pool.padding, pool.dilation
    return settings == (3, 2, 1, 1) and not pool.ceil_mode and not pool.return_indices


def _is_residual_block(block: Any) -> bool:
    """Whether this is a ResNet block of timm with only convolutions, folded batch norms and ReLUs."""
    if type(block) not in (BasicBlock, Bottleneck):
        return False
    plain = all(getattr(block, name, None) is None for name in ("se", "drop_path"))
    others = (getattr(block, name, nn.Identity()) for name in ("aa", "drop_block", "bn1", "bn2", "bn3"))
    no_others = all(type(module) is nn.Identity for module in others)
    shortcut = block.downsample
    simple = shortcut is None or (len(shortcut) == 2 and type(shortcut[1]) is nn.Identity)
    return plain and no_others and simple and isinstance(block.act1, nn.ReLU)


def _block(block: Any, compiled: bool) -> FastBlock:
    layers = [block.conv1, block.conv2] + ([block.conv3] if hasattr(block, "conv3") else [])
    shortcut = None if block.downsample is None else convolution(block.downsample[0], False, compiled)
    return FastBlock([convolution(layer, True, compiled) for layer in layers], shortcut)
