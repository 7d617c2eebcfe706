"""Preparing a network for training on a device: memory layout, lean layers, activation checkpointing, compilation."""

import torch

from fastfcn.errors import UserError
from fastfcn.fast.lean_training import train_lean
from fastfcn.models.segmenter import Segmenter
from fastfcn.training.activation_checkpointing import recompute_activations
from fastfcn.utils.machine import Machine


def prepare(network: Segmenter, machine: Machine, device: torch.device) -> None:
    """Apply the settings of `machine` to `network`, in place, and use the fastest weight layout.

    On a CPU, large tensors of this thread come from the kernels' arena from then on.

    Raises UserError if the network cannot be compiled for `device`.
    """
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if machine.checkpoint_activations and machine.compile:
        raise UserError("--checkpoint-activations and --compile do not go together.", "Leave one of them out.")
    if device.type == "cpu" and not machine.compile and train_lean(network):
        torch.ops.fastfcn.use_arena(True)
    if machine.checkpoint_activations:
        recompute_activations(network)
    if machine.compile:
        compile_parts(network, device)


def compile_parts(network: Segmenter, device: torch.device, backend: str = "inductor") -> None:
    """Have backbone, neck and heads compiled at their first call; raises UserError where there is no compiler.

    Dropout stays the same. Copies of the network, such as those that are evaluated, are not compiled.
    """
    import torch._inductor.config

    torch._inductor.config.fallback_random = True
    try:
        torch.compile(torch.sin, backend=backend)(torch.ones(8, device=device))
    except Exception as error:  # of many kinds, by device and by what is missing
        raise UserError(
            f"Cannot compile for {device.type}: {(str(error) or type(error).__name__).splitlines()[0]}",
            "Install a C++ compiler such as g++ (for a GPU, Triton as well), or leave --compile out.",
        ) from error
    for part in (network.backbone, network.neck, network.head, network.auxiliary):
        if part is not None:
            part.compile(backend=backend)
