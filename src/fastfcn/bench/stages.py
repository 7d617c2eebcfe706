"""The stages of a network, and the FLOPs, parameters and memory of each.

Hooks call back at the end of each stage. A stage is everything between the end of the previous one and its own end, so
every operation of a pass belongs to exactly one stage.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fastfcn.models.backbone import image_channels
from fastfcn.models.jpu import NoNeck
from fastfcn.models.segmenter import Segmenter

IMAGE, STEM, BACKBONE, NECK, HEAD, LABELS = "image", "stem", "backbone", "neck", "head", "labels"

Callback = Callable[[str, Any], None]  # (stage that ends here, its output)


def backbone_stages(backbone: Any) -> dict[str, nn.Module]:
    """The modules that compute the backbone's maps, in order: layer1 to layer4 of a ResNet.

    Empty if they cannot be determined, as for networks that timm wraps as a whole; the backbone is then one stage.
    """
    modules = dict(backbone.named_modules())
    names = [name if name in modules else name.replace(".", "_") for name in backbone.feature_info.module_name()]
    return {name: modules[name] for name in names} if all(name in modules for name in names) else {}


@contextmanager
def stage_callbacks(network: Segmenter, callback: Callback) -> Iterator[None]:
    """In this context each pass of `network` calls `callback` at the end of every stage but the last one, LABELS.

    The first stage, IMAGE, is everything before the backbone. A network without a neck has no NECK.
    """
    backbone, named = network.backbone, list(backbone_stages(network.backbone).items())
    hooks = [backbone.register_forward_pre_hook(lambda _, images: callback(IMAGE, images))]
    if named:
        hooks.append(named[0][1].register_forward_pre_hook(lambda _, features: callback(STEM, features)))
    for name, module in named[:-1]:
        hooks.append(_at_end(module, name, callback))
    # What the backbone does after its last map belongs to that map's stage.
    last = named[-1][0] if named else BACKBONE
    hooks.append(backbone.register_forward_hook(lambda _, __, maps: callback(last, maps[-1])))
    if has_neck(network):
        hooks.append(_at_end(network.neck, NECK, callback))
    hooks.append(_at_end(network.head, HEAD, callback))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def has_neck(network: Segmenter) -> bool:
    """Whether the network has a neck between backbone and head."""
    return not isinstance(network.neck, NoNeck)


def count_stages(network: Segmenter, size: tuple[int, int]) -> dict[str, int]:
    """FLOPs (2 per multiply-add) of the convolutions and matrix products of each stage, for an image of `size`.

    `network` is on the meta device, where nothing is computed; the auxiliary head is not counted.
    """
    ends: list[tuple[str, int]] = []
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        with stage_callbacks(network, lambda stage, _: ends.append((stage, counter.get_total_flops()))):
            network.logits(torch.empty(1, image_channels(network.backbone), *size, device="meta"))
        ends.append((LABELS, counter.get_total_flops()))  # no products: a resize and an argmax
    before = [0] + [total for _, total in ends[:-1]]
    return {stage: total - earlier for (stage, total), earlier in zip(ends, before, strict=True)}


def sum_by_stage(network: Segmenter, amount: Callable[[nn.Module], int]) -> dict[str, int]:
    """The sum of `amount` over the modules of each stage; `amount` must not include the module's submodules.

    Modules of the backbone are assigned to stages in the order of registration, which is the order they run in.
    """
    named = list(backbone_stages(network.backbone))
    totals = dict.fromkeys([STEM, *named] if named else [BACKBONE], 0)
    current = next(iter(totals))  # modules between two stages belong to the later one
    for name, module in network.backbone.named_modules():
        parents = [stage for stage in named if f"{name}.".startswith(f"{stage}.")]
        if parents:
            current = named[min(named.index(parents[0]) + 1, len(named) - 1)]
        totals[parents[0] if parents else current] += amount(module)
    for stage, part in ((NECK, network.neck), (HEAD, network.head)):
        if stage == HEAD or has_neck(network):
            totals[stage] = sum(map(amount, part.modules()))
    return totals


def parameters(module: nn.Module) -> int:
    """Number of parameters of `module`, without its submodules."""
    return sum(parameter.numel() for parameter in module.parameters(recurse=False))


def weight_bytes(module: nn.Module) -> int:
    """Bytes of the parameters and buffers of `module`, without its submodules."""
    tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def output_bytes(output: Any) -> int:
    """Bytes of the tensors or arrays in the output of a stage."""
    if isinstance(output, tuple | list):
        return sum(output_bytes(item) for item in output)
    return output.numel() * output.element_size() if isinstance(output, Tensor) else getattr(output, "nbytes", 0)


def _at_end(module: nn.Module, name: str, callback: Callback) -> Any:
    return module.register_forward_hook(lambda _, __, output: callback(name, output))
