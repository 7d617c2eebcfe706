"""Error messages for a recipe's values, one line each: the key, the value found, what is allowed."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, get_args

import tomlkit
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fastfcn.recipes.upgrades import renamed_keys
from fastfcn.utils.spelling import did_you_mean


class Rule(NamedTuple):
    """A constraint on several values; it is only checked if each of them is valid by itself."""

    keys: tuple[str, ...]
    holds: Callable[..., bool]
    line: str


RULES = (
    Rule(
        ("backbone.strides", "neck.kind"),
        lambda strides, neck: neck == "none" or tuple(strides) == (1, 2, 2, 2),
        "backbone.strides: found {0}, but neck.kind = {1} joins maps at strides 8, 16 and 32; "
        'allowed: [1, 2, 2, 2], or neck.kind = "none"',
    ),
    Rule(
        ("schedule.min_lr", "optim.lr"),
        lambda lowest, first: lowest <= first,
        "schedule.min_lr: found {0}, which is above optim.lr = {1}; allowed: at most optim.lr",
    ),
    Rule(
        ("eval.stride", "eval.crop"),
        lambda stride, crop: stride <= crop,
        "eval.stride: found {0}, but windows of eval.crop = {1} would leave gaps; allowed: at most eval.crop",
    ),
)

# What works on RGB images of 8 bits only: key -> the value without it.
RGB_ONLY = {"data.blur": 0.0, "colors.kind": "none"}

# Pairs of keys of one section of which exactly one must be written: key -> the other.
ALTERNATIVES = {"optim.steps": "optim.epochs", "optim.epochs": "optim.steps"}


def toml_text(value: Any) -> str:
    """A value as TOML on one line, e.g. `[0.5, 2.0]` or `{kind = "none"}`."""
    match value:
        case Mapping():
            return "{" + ", ".join(f"{key} = {toml_text(inner)}" for key, inner in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(toml_text(inner) for inner in value) + "]"
        case _:
            return tomlkit.item(value).as_string()


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested sections as one dictionary with dotted keys; None is left out."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": inner_value for inner, inner_value in flatten(value).items()}
        elif value is not None:
            flat[key] = value
    return flat


def field_lines(error: ValidationError, schema: type[BaseModel]) -> dict[str, str]:
    """Errors of single values: dotted key -> line."""
    lines = {}
    for problem in error.errors():
        path = tuple(str(step) for step in problem["loc"])
        models = _models_around(path, schema)
        # In a section of several kinds pydantic names the kind in between: ("head", "psp", "width").
        key = path[0] if len(path) == 1 else f"{path[0]}.{path[-1]}"
        if problem["type"].startswith("union_tag"):
            key += ".kind"
        lines[key] = f"{key}: {_message(problem, key, models, schema)}"
    return lines


def rule_lines(values: Mapping[str, Any], wrong: Mapping[str, str]) -> list[str]:
    """A line for each rule that `values` break. Rules on missing keys or on keys in `wrong` are skipped."""
    flat = {key: value for key, value in flatten(values).items() if key not in wrong}
    broken = []
    for rule in RULES:
        used = [flat[key] for key in rule.keys if key in flat]
        if len(used) == len(rule.keys) and not rule.holds(*used):
            broken.append(rule.line.format(*map(toml_text, used)))
    return [*broken, *_alternative_lines(flatten(values), wrong), *_band_lines(flat, wrong)]


def _alternative_lines(flat: Mapping[str, Any], wrong: Mapping[str, str]) -> Iterator[str]:
    """A line for each pair of alternatives in a section of a known kind that has neither or both."""
    for key, other in list(ALTERNATIVES.items())[::2]:
        kind = f"{key.split('.')[0]}.kind"
        if kind not in flat or kind in wrong:
            continue
        if key not in flat and other not in flat:
            yield f"{key}: missing; either {key} or {other} must be written"
        elif key in flat and other in flat:
            yield f"{other}: found {toml_text(flat[other])}, but {key} = {toml_text(flat[key])}; allowed: one of them"


def _band_lines(flat: Mapping[str, Any], wrong: Mapping[str, str]) -> Iterator[str]:
    """A line for each key that does not fit the channels of the images; `flat` has no keys in `wrong`."""
    bands = flat.get("data.bands")
    if "data.bands" in wrong:
        return
    channels = len(bands) if bands else 3
    for key, numbers in (("data.mean", "three numbers"), ("data.std", "three numbers above 0")):
        if isinstance(found := flat.get(key), tuple) and len(found) != channels:
            each = f"one number for each of the {channels} data.bands" if bands else "[red, green, blue], " + numbers
            yield f"{key}: found {toml_text(found)}; allowed: {each}"
    for key, value in RGB_ONLY.items() if bands else ():
        if flat.get(key, value) != value:
            yield (
                f"{key}: found {toml_text(flat[key])}, which needs RGB images, but the recipe has data.bands; "
                f"allowed: {toml_text(value)}"
            )


def kind_of(model: type[BaseModel]) -> str:
    """The value of `kind` that selects `model`."""
    return get_args(model.model_fields["kind"].annotation)[0]


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models of a section: several for a union such as [head], one for [data], none for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def _models_around(path: tuple[str, ...], schema: type[BaseModel]) -> list[type[BaseModel]]:
    if len(path) == 1:
        return [schema]
    models = models_in(schema.model_fields[path[0]].annotation)
    return [model for model in models if len(path) == 2 or kind_of(model) == path[1]]


def _message(problem: ErrorDetails, key: str, models: list[type[BaseModel]], schema: type[BaseModel]) -> str:
    value, context = problem["input"], problem.get("ctx", {})
    match problem["type"]:
        case "missing" if models == [schema] and models_in(schema.model_fields[key].annotation):
            return f"the section [{key}] is missing"
        case "missing" | "union_tag_not_found":
            return "missing; every key must be written"
        case "extra_forbidden":
            return _unknown_key(key, models[0], schema)
        case "literal_error" | "union_tag_invalid":
            text = str(context.get("expected") or context.get("expected_tags"))
            choices = re.findall(r"'([^']*)'", text)
            value = value["kind"] if "tag" in context else value
            return _wrong_value(value, ", ".join(map(toml_text, choices))) + did_you_mean(str(value), choices)
        case "allowed":
            return _wrong_value(value, context.get("allowed", ""))
        case _:
            return _wrong_value(value, f"a section [{key}]")


def _wrong_value(value: Any, allowed: str) -> str:
    text = toml_text(value)
    return f"found {text if len(text) <= 80 else text[:77] + '...'}; allowed: {allowed}"


def _unknown_key(key: str, model: type[BaseModel], schema: type[BaseModel]) -> str:
    if now := renamed_keys().get(key):
        return f"this key is now {now}"
    word, known = key.split(".")[-1], list(model.model_fields)
    line = f"unknown key; allowed: {', '.join(known)}"
    if close := did_you_mean(word, known):
        return line + close
    elsewhere = [
        f"{section}.{word}"
        for section, field in schema.model_fields.items()
        if any(word in other.model_fields for other in models_in(field.annotation))
    ]
    return line + (f'; did you mean "{elsewhere[0]}"?' if elsewhere and key not in elsewhere else "")
