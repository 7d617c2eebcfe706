"""Where the stages of a network begin and end, and how much arithmetic and how many parameters each has.

A pass is cut at marks. A stage is all that happens between the mark before it and its own, so every operation and
every moment of a pass belongs to one stage.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fastfcn.models.jpu import NoNeck
from fastfcn.models.segmenter import Segmenter

IMAGE, STEM, BACKBONE, NECK, HEAD, CLASS_MAP = "image", "stem", "backbone", "neck", "head", "class map"

Mark = Callable[[str, Any], None]  # (the stage that ends here, what it hands on)


def backbone_stages(backbone: Any) -> dict[str, nn.Module]:
    """The modules that give the backbone's maps, in their order: layer1 to layer4 of a ResNet.

    Empty where they cannot be told, as in networks that timm wraps whole; then the backbone is one stage.
    """
    modules = dict(backbone.named_modules())
    names = [name if name in modules else name.replace(".", "_") for name in backbone.feature_info.module_name()]
    return {name: modules[name] for name in names} if all(name in modules for name in names) else {}


@contextmanager
def marked(network: Segmenter, mark: Mark) -> Iterator[None]:
    """Within this context each pass of `network` calls `mark` at the end of each stage but the last, CLASS_MAP.

    The first is IMAGE: what comes before the backbone. A network without a neck has no stage of that name.
    """
    backbone, named = network.backbone, list(backbone_stages(network.backbone).items())
    hooks = [backbone.register_forward_pre_hook(lambda _, images: mark(IMAGE, images))]
    if named:
        hooks.append(named[0][1].register_forward_pre_hook(lambda _, features: mark(STEM, features)))
    for name, module in named[:-1]:
        hooks.append(_at_the_end(module, name, mark))
    # What the backbone does after its last map belongs to that map.
    last = named[-1][0] if named else BACKBONE
    hooks.append(backbone.register_forward_hook(lambda _, __, maps: mark(last, maps[-1])))
    if has_neck(network):
        hooks.append(_at_the_end(network.neck, NECK, mark))
    hooks.append(_at_the_end(network.head, HEAD, mark))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def has_neck(network: Segmenter) -> bool:
    """Whether there is a stage between backbone and head."""
    return not isinstance(network.neck, NoNeck)


def count_stages(network: Segmenter, size: tuple[int, int]) -> dict[str, int]:
    """Operations (2 per multiply-add) in the convolutions and matrix products of each stage, for an image of `size`.

    `network` is on the meta device, where nothing is computed; the auxiliary head is left out.
    """
    ends: list[tuple[str, int]] = []
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        with marked(network, lambda stage, _: ends.append((stage, counter.get_total_flops()))):
            network.logits(torch.empty(1, 3, *size, device="meta"))
        ends.append((CLASS_MAP, counter.get_total_flops()))  # no products in it, as Segmenter has it
    before = [0] + [total for _, total in ends[:-1]]
    return {stage: total - earlier for (stage, total), earlier in zip(ends, before, strict=True)}


def of_stages(network: Segmenter, amount: Callable[[nn.Module], int]) -> dict[str, int]:
    """The sum of `amount` over the modules of each stage; of a module it is to count what is its own, not its parts'.

    Modules of the backbone belong to stages in the order in which they stand in it, which is that of their work.
    """
    named = list(backbone_stages(network.backbone))
    whole = dict.fromkeys([STEM, *named] if named else [BACKBONE], 0)
    after = next(iter(whole))  # the stage of what stands outside the named modules: of the next one to come
    for name, module in network.backbone.named_modules():
        around = [each for each in named if f"{name}.".startswith(f"{each}.")]
        if around:
            after = named[min(named.index(around[0]) + 1, len(named) - 1)]
        whole[around[0] if around else after] += amount(module)
    for stage, part in ((NECK, network.neck), (HEAD, network.head)):
        if stage == HEAD or has_neck(network):
            whole[stage] = sum(map(amount, part.modules()))
    return whole


def parameters(module: nn.Module) -> int:
    """How many parameters `module` has of its own."""
    return sum(each.numel() for each in module.parameters(recurse=False))


def held_bytes(module: nn.Module) -> int:
    """Bytes of the parameters and buffers that `module` has of its own."""
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return sum(each.numel() * each.element_size() for each in own)


def handed_on_bytes(output: Any) -> int:
    """Bytes of the tensors (or arrays) in what a stage hands on."""
    if isinstance(output, tuple | list):
        return sum(handed_on_bytes(each) for each in output)
    return output.numel() * output.element_size() if isinstance(output, Tensor) else getattr(output, "nbytes", 0)


def _at_the_end(module: nn.Module, name: str, mark: Mark) -> Any:
    return module.register_forward_hook(lambda _, __, output: mark(name, output))
