"""The weights that training starts from: those of a whole network (`load_from`), or of its backbone alone."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from fastfcn import build
from fastfcn.errors import WeightsError
from fastfcn.models.segmenter import Segmenter
from fastfcn.recipes.recipe import Recipe
from fastfcn.recipes.schema import CrossEntropy
from fastfcn.weights import file
from fastfcn.weights.checkpoint import read_checkpoint, state_dict
from fastfcn.weights.convert import checkpoint_classes
from fastfcn.weights.locate import local_file
from fastfcn.weights.official import from_official, is_official
from fastfcn.weights.openmmlab import from_openmmlab
from fastfcn.weights.pretrained import adapted_to_channels, load_pretrained, read_file

BACKBONE_ONLY = "Use a recipe with the same backbone, neck and head, or take the backbone alone: backbone.pretrained={}"


@dataclass(frozen=True)
class ClassMatch:
    """Which classes of a dataset the weights know: `kept` keep their outputs, `new` start from random weights.

    `unused`: classes of the weights that the dataset does not have; `reordered`: `kept` are all classes, in another
    order.
    """

    kept: tuple[str, ...]
    new: tuple[str, ...]
    unused: tuple[str, ...]
    reordered: bool

    def __str__(self) -> str:
        """A line for the terminal; empty if the classes are the same."""
        if not self.new and not self.unused:
            return f"All {len(self.kept)} classes keep their weights, in another order." if self.reordered else ""
        total = len(self.kept) + len(self.new)
        parts = [f"{len(self.kept)} of {total} classes keep their weights"]
        parts += [f"{title}: {', '.join(names)}" for title, names in (("kept", self.kept), ("new", self.new)) if names]
        return "; ".join(parts) + (f"; not in the dataset: {', '.join(self.unused)}" if self.unused else "") + "."


def load_initial_weights(
    recipe: Recipe, model: Segmenter, classes: Sequence[str], strict: bool = False, remarks: list[str] | None = None
) -> ClassMatch | None:
    """Load the recipe's initial weights: `load_from` into the whole network, else `backbone.pretrained`.

    `classes`: names of the dataset's classes; `strict`: refuse weights of other classes; `remarks`: what was done to
    the weights is appended. Returns which classes keep their weights, None without `load_from`. Raises WeightsError if
    the weights are missing or do not fit.
    """
    if recipe.load_from == "none":
        load_pretrained(model.backbone, recipe.backbone.name, recipe.backbone.pretrained, remarks)
        return None
    return load_start(model, recipe, classes, strict, remarks)


def load_start(
    model: Segmenter, recipe: Recipe, classes: Sequence[str], strict: bool = False, remarks: list[str] | None = None
) -> ClassMatch | None:
    """Load `recipe.load_from` into `model`, the network of `recipe` for `classes`: for fine-tuning.

    It is a weights file, the name of a recipe with published weights, `hf://USER/NAME`, or a PyTorch checkpoint.
    The RGB weights of its first convolution are adapted to other channels. Outputs of classes of the same name are
    copied; those of other classes keep the values in `model`. Returns None for weights without class names, whose
    number of classes has to be that of the dataset.
    """
    source = recipe.load_from
    path = local_file(source)
    if not path.is_file():
        raise WeightsError(
            f"load_from: there is no file {source}.",
            "Give the weights of a whole network, for example load_from=runs/first/last.safetensors, the name of a "
            'recipe with published weights, or "none".',
        )
    tensors, known = _read(path, model)
    match = None
    if known is not None:
        match = match_classes(known, classes)
        if strict and (match.new or match.unused):
            raise WeightsError(
                f"{source} has other classes than the dataset: {match}",
                "Train without --strict to start new classes from random weights.",
            )
        tensors = _for_classes(tensors, model, recipe, known, classes, path)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    tensors = adapted_to_channels(tensors, shapes, [] if remarks is None else remarks)
    try:
        file.load_state(model, tensors, source)
    except WeightsError as error:
        hint = "The file has no class names, so that only a dataset with the same number of classes can use it."
        raise WeightsError(error.message, BACKBONE_ONLY.format(path) if known else hint) from error
    return match


def match_classes(known: Sequence[str], classes: Sequence[str]) -> ClassMatch:
    """Compare the class names `known` to weights with those of a dataset, as `class_sources` does."""
    sources = class_sources(known, classes)
    kept = tuple(name for name, index in zip(classes, sources, strict=True) if index is not None)
    new = tuple(name for name, index in zip(classes, sources, strict=True) if index is None)
    unused = tuple(name for index, name in enumerate(known) if index not in sources)
    return ClassMatch(kept, new, unused, sources != list(range(len(known))))


def class_sources(known: Sequence[str], classes: Sequence[str]) -> list[int | None]:
    """For each of `classes` the index of the class of that name in `known`, or None.

    Case, spaces, hyphens and underscores do not count, unless several classes would then be equal.
    """
    exact = {name: index for index, name in enumerate(known)}
    loose = _unique_keys(known)
    own = _unique_keys(classes)
    return [exact.get(name, loose.get(_key(name)) if _key(name) in own else None) for name in classes]


def _unique_keys(names: Sequence[str]) -> dict[str, int]:
    keys = [_key(name) for name in names]
    return {key: index for index, key in enumerate(keys) if keys.count(key) == 1}


def _key(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.strip().casefold())


def _read(path: Path, model: Segmenter) -> tuple[dict[str, Tensor], list[str] | None]:
    """The tensors of a file by the names of `model`, and its class names if it has any."""
    if path.suffix == ".safetensors" and _is_weights_file(path):
        weights = file.read(path)
        return file.current_names(weights.tensors), list(weights.description.class_names)
    if path.suffix in (".safetensors", ".npz"):
        return file.current_names(read_file(str(path))), None
    content = read_checkpoint(path)
    tensors = state_dict(content, path)
    if not tensors.keys() <= model.state_dict().keys():
        tensors = from_official(tensors) if is_official(list(tensors)) else from_openmmlab(tensors)
    names = checkpoint_classes(content)
    return file.current_names(tensors), names and [str(name) for name in names]


def _is_weights_file(path: Path) -> bool:
    try:
        with safetensors.safe_open(str(path), framework="pt") as opened:
            return (opened.metadata() or {}).get("format") == file.FORMAT
    except (safetensors.SafetensorError, OSError):
        return True  # its reader explains what is wrong


def _for_classes(
    tensors: Mapping[str, Tensor], model: Segmenter, recipe: Recipe, known: Sequence[str], classes: Sequence[str],
    path: Path,
) -> dict[str, Tensor]:  # fmt: skip
    """`tensors` with one row per class of the dataset, instead of the `known` ones, in every tensor that has them."""
    state, sources = model.state_dict(), class_sources(known, classes)
    new_rows = [row for row, index in enumerate(sources) if index is not None]
    old_rows = [index for index in sources if index is not None]
    result = dict(tensors)
    for name in class_tensors(recipe, len(classes)) & tensors.keys():
        value, rows = tensors[name], state[name].clone()
        if len(value) != len(known):
            raise WeightsError(
                f"{path}: {name} has {len(value)} rows for {len(known)} classes.", "The file is damaged."
            )
        if value.shape[1:] != rows.shape[1:]:
            continue  # of another network: all differences are reported together
        rows[new_rows] = value[old_rows].to(rows.dtype)
        result[name] = rows
    return result


def class_tensors(recipe: Recipe, classes: int) -> set[str]:
    """Names of the tensors of the recipe's network with one row per class: of all classifiers, whatever its heads.

    They are those whose shape depends on the number of classes.
    """
    plain = recipe.model_copy(update={"loss": CrossEntropy(kind="cross_entropy", mean_over="labeled")})
    with torch.device("meta"):
        one, other = (build.network(plain, number).state_dict() for number in (classes, classes + 1))
    return {name for name, value in one.items() if value.shape != other[name].shape}
