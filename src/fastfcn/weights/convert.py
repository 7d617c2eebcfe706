"""`fastfcn convert`: published checkpoints, of OpenMMLab or of FastFCN's own code, to weights files."""

from pathlib import Path

from fastfcn import build, recipes, weights
from fastfcn.errors import WeightsError
from fastfcn.weights.checkpoint import read_checkpoint, state_dict
from fastfcn.weights.official import from_official, is_official
from fastfcn.weights.openmmlab import from_openmmlab
from fastfcn.weights.state_dict import load_state


def convert(checkpoint: str | Path, recipe_name: str, out: str | Path) -> list[str]:
    """Write a published `checkpoint` as a weights file for the recipe; returns remarks to show.

    It is of OpenMMLab (0.x or 1.x), or of FastFCN's own code (`.pth.tar`), which is told by the names in it.

    Raises WeightsError with all missing, extra and misshapen keys where they do not fit, and where the checkpoint
    names other classes than the recipe's data set has. Nothing in the checkpoint is executed.
    """
    used = recipes.load(recipe_name)
    about = build.description(used)
    content = read_checkpoint(checkpoint)
    model = build.network(used, len(about.classes))
    tensors = state_dict(content, checkpoint)
    ours = from_official(tensors) if is_official(list(tensors)) else from_openmmlab(tensors)
    load_state(model, ours, str(checkpoint))
    remarks = _compare_classes(content, [each.name for each in about.classes], checkpoint)
    weights.save(out, model, used, about, {"converted_from": Path(checkpoint).name})
    return remarks


def _compare_classes(content: dict, names: list[str], checkpoint: str | Path) -> list[str]:
    found = checkpoint_classes(content)
    if found is None:
        return [f"{checkpoint} does not name its classes; those of the recipe's data set are used."]
    if len(found) != len(names):
        raise WeightsError(
            f"{checkpoint} has {len(found)} classes, the recipe's data set {len(names)}.",
            "Choose another recipe.",
        )
    return [
        f"Class {index} is called {theirs!r} in the checkpoint and {ours!r} in the recipe's data set."
        for index, (theirs, ours) in enumerate(zip(found, names, strict=True))
        if str(theirs).lower().strip() != ours.lower().strip()
    ]


def checkpoint_classes(content: dict) -> list[str] | None:
    """Class names in a checkpoint: 1.x meta.dataset_meta.classes, 0.x meta.CLASSES; None where it has none."""
    meta = content.get("meta")
    about = meta.get("dataset_meta") if isinstance(meta, dict) else None
    for place in (about, meta):
        found = place.get("classes", place.get("CLASSES")) if isinstance(place, dict) else None
        if isinstance(found, list | tuple):
            return list(found)
    return None
