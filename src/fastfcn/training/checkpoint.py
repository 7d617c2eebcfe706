"""last.ckpt of a run: everything that resuming needs, verified when it is loaded."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastfcn.errors import WeightsError
from fastfcn.weights.file import load_state, read_tensors, write_tensors

FORMAT = "fastfcn-checkpoint-1"


@dataclass
class TrainState:
    """Progress of a run: steps done, best validation mIoU in percent (-1: none, NaN: undefined), and its step."""

    step: int = 0
    best: float = -1.0
    best_step: int = 0


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None, state: TrainState
) -> None:
    """Write everything that resuming needs, with a checksum, atomically. Raises OutputError."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    if average:
        tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in values.items() if value is not None}
    write_tensors(path, tensors, {"format": FORMAT, "facts": json.dumps(asdict(state))})


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None, steps: int
) -> TrainState:
    """Load the checkpoint at `path` into model, optimizer and average; returns its progress, of `steps` in the recipe.

    Everything is verified before anything is loaded. Raises WeightsError.
    """
    header, tensors = read_tensors(path, FORMAT, _damaged)
    try:
        state = _train_state(header, steps)
        momentum = _optimizer_state(tensors, optimizer, required=state.step > 0)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    for part, prefix in ((model, "model."), (average, "average.")):
        if part:
            values = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            _load(part, values, path)
    optimizer.load_state_dict(optimizer.state_dict() | {"state": momentum})
    return state


def _train_state(header: dict[str, str], steps: int) -> TrainState:
    """The progress in a header; raises ValueError unless it can be that of a run of `steps` steps."""
    facts = json.loads(header.get("facts", "null"))
    names = [field.name for field in fields(TrainState)]
    if not isinstance(facts, dict) or sorted(facts) != sorted(names):
        keys = ", ".join(facts)[:100] if isinstance(facts, dict) and facts else "nothing"
        raise ValueError(f"its header has {keys} instead of {', '.join(names)}")
    step, best, best_step = (facts[name] for name in names)
    if not _is_integer(step) or not 0 <= step <= steps:
        raise ValueError(f"its step is {_shown(step)}, and the recipe has {steps} steps")
    if not _is_integer(best_step) or not 0 <= best_step <= step:
        raise ValueError(f"its best_step is {_shown(best_step)} after {step} steps")
    if not (_is_integer(best) or isinstance(best, float)) or best > 100 or best < -1:
        raise ValueError(f"its best mIoU is {_shown(best)}")
    return TrainState(step, float(best), best_step)


def _optimizer_state(
    tensors: dict[str, Tensor], optimizer: torch.optim.Optimizer, required: bool
) -> dict[int, dict[str, Tensor]]:
    """The state of each parameter by its index; raises ValueError if it does not fit the optimizer.

    Parameters that were frozen all the time have none.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    names = _state_names(optimizer)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if not key.startswith("optimizer."):
            continue
        index, _, name = key.removeprefix("optimizer.").partition(".")
        if not index.isdecimal() or int(index) >= len(parameters) or name not in names:
            raise ValueError(f"{key[:100]} is not a state of the optimizer")
        shape = parameters[int(index)].shape if names[name] else torch.Size()
        if value.shape != shape:
            expected = f"the weight {list(shape)}" if names[name] else "expected one number"
            raise ValueError(f"{key} is {list(value.shape)}, {expected}")
        state.setdefault(int(index), {})[name] = value
    if required and names and not state:
        raise ValueError("the state of the optimizer is missing")
    for index, values in state.items():
        if lacking := names.keys() - values.keys():
            raise ValueError(f"optimizer.{index}.{min(lacking)} is missing")
    return state


def _state_names(optimizer: torch.optim.Optimizer) -> dict[str, bool]:
    """Names of the state that `optimizer` keeps per parameter, and whether each has the parameter's shape.

    They are those of an optimizer with the same settings after one step on another parameter.
    """
    plain: Any = getattr(optimizer, "optimizer", optimizer)  # Fabric wraps optimizers
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.zeros(2)
    probe = type(plain)([{**plain.param_groups[0], "params": [parameter], "fused": None}], lr=0.0)
    probe.step()
    state = probe.state[parameter]
    return {name: value.shape == parameter.shape for name, value in state.items() if value is not None}


def _load(part: nn.Module, values: dict[str, Tensor], path: Path) -> None:
    try:
        load_state(part, values, str(path))
    except WeightsError as error:
        raise WeightsError(error.message, _hint(path)) from error


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: object) -> str:
    return repr(value)[:40]


def _damaged(path: str | Path, reason: str) -> WeightsError:
    return WeightsError(f"The checkpoint {path} is damaged: {reason}.", _hint(Path(path)))


def _hint(path: Path) -> str:
    weights = path.with_name("last.safetensors")
    again = f"Remove {path} and resume to start again from step 0"
    if not weights.exists():
        return f"{again}."
    return f"{again}, or start a new run from its last weights: load_from={weights} with another --out."
