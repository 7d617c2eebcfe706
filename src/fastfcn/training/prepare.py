"""Prepare a network for training: memory layout, CPU training kernels, activation checkpointing, compilation."""

from functools import partial

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor

from fastfcn.errors import UserError
from fastfcn.fast.cpu_training import subsample_pointwise, use_training_kernels
from fastfcn.models.segmenter import Segmenter
from fastfcn.training.activation_checkpointing import recompute_activations
from fastfcn.utils.machine import Machine
from fastfcn.utils.modules import to_channels_last


def prepare(network: Segmenter, machine: Machine, device: torch.device) -> None:
    """Apply the settings of `machine` to `network`, in place, and convert its weights to channels_last.

    On a CPU, large tensors of this thread are allocated from the kernels' memory arena from now on.
    Raises UserError if the network cannot be compiled for `device`, or for contradictory settings.
    """
    to_channels_last(network)
    if machine.checkpoint_activations and machine.compile:
        raise UserError("--checkpoint-activations and --compile cannot be combined.", "Use only one of them.")
    if device.type == "cpu":
        subsample_pointwise(network)
    if device.type == "cpu" and not machine.compile and use_training_kernels(network):
        torch.ops.fastfcn.use_arena(True)
    if machine.checkpoint_activations:
        recompute_activations(network)
    if machine.compile:
        compile_parts(network, device)


def synchronize_batch_norms(network: Segmenter) -> None:
    """Replace batch norms, in place, by those that take their statistics from all processes (on GPUs only).

    timm's converter, unlike torch's, keeps the activation inside timm's `BatchNormAct2d`.
    """
    convert_sync_batchnorm(network)  # in place, because the network itself is not a batch norm


def match_gradient_strides(network: Segmenter) -> None:
    """Give gradients the strides of their weights, in place, where both describe the same memory.

    A dimension of size one, as in depthwise and 1x1 convolutions, can have any stride, and convolutions return others
    than channels_last weights have: DistributedDataParallel warns of that.
    """
    for parameter in network.parameters():
        if parameter.requires_grad and 1 in parameter.shape:
            parameter.register_hook(partial(_restride, parameter.shape, parameter.stride()))


def _restride(shape: torch.Size, strides: tuple[int, ...], gradient: Tensor) -> Tensor:
    """`gradient` as a view with `strides`, if it differs in the strides of dimensions of size one only."""
    pairs = zip(shape, strides, gradient.stride(), strict=True)
    if gradient.stride() == strides or any(one != other for size, one, other in pairs if size > 1):
        return gradient
    return gradient.as_strided(shape, strides)


def fused_kernels(machine: Machine, device: torch.device) -> bool:
    """Whether optimizers use their fused kernels: on NVIDIA GPUs, unless gradients are scaled (16-mixed)."""
    return device.type == "cuda" and machine.precision != "16-mixed"


def compile_parts(network: Segmenter, device: torch.device, backend: str = "inductor") -> None:
    """Compile backbone, neck and heads at their first call; raises UserError if no compiler works for `device`.

    Dropout masks stay the same as without compilation. Copies of the network, as used in validation, are not compiled.
    """
    import torch._inductor.config

    torch._inductor.config.fallback_random = True
    try:
        torch.compile(torch.sin, backend=backend)(torch.ones(8, device=device))
    except Exception as error:  # the type depends on the device and on what is missing
        raise UserError(
            f"Cannot compile for {device.type}: {(str(error) or type(error).__name__).splitlines()[0]}",
            "Install a C++ compiler such as g++ (for a GPU also Triton), or train without --compile.",
        ) from error
    for part in (network.backbone, network.neck, network.head, network.auxiliary):
        if part is not None:
            part.compile(backend=backend)
