"""Fitting named tensors to a network, with everything that does not fit said at once."""

import re

from torch import Tensor, nn

from fastfcn.errors import WeightsError

# Names of parameters in files of version 0.1, and what they are now.
RENAMED = ((re.compile(r"(^|\.)head\.presence\."), r"\1head.se_layer."),)


def load_state(model: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Load `tensors` into `model`; raises WeightsError listing all missing, extra and misshapen keys."""
    for pattern, now in RENAMED:
        tensors = {pattern.sub(now, name): value for name, value in tensors.items()}
    problems = key_problems({name: tuple(value.shape) for name, value in model.state_dict().items()}, tensors)
    if problems:
        raise WeightsError(
            f"{source} does not fit the network of the recipe:\n" + "\n".join(problems),
            "Choose the recipe that the weights were made with: head, data set (number of classes), backbone.",
        )
    model.load_state_dict(tensors)


def key_problems(wanted: dict[str, tuple[int, ...]], found: dict[str, Tensor]) -> list[str]:
    """What keeps `found` from being loaded: one line a missing, extra or misshapen key, the first 8 of each kind."""
    missing = [f"  missing: {name} {list(shape)}" for name, shape in wanted.items() if name not in found]
    extra = [f"  not in the network: {name} {list(value.shape)}" for name, value in found.items() if name not in wanted]
    misshapen = [
        f"  wrong shape: {name} is {list(found[name].shape)}, the network has {list(shape)}"
        for name, shape in wanted.items()
        if name in found and tuple(found[name].shape) != shape
    ]
    return [line for lines in (misshapen, missing, extra) for line in _first(lines)]


def _first(lines: list[str], most: int = 8) -> list[str]:
    return lines[:most] + ([f"  ... and {len(lines) - most} more"] if len(lines) > most else [])
