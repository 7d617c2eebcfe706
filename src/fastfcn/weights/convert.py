"""`fastfcn convert`: checkpoints of OpenMMLab or of the official FastFCN code to weights files."""

from pathlib import Path

from fastfcn import build, recipes, weights
from fastfcn.errors import WeightsError
from fastfcn.weights.checkpoint import read_checkpoint, state_dict
from fastfcn.weights.file import load_state
from fastfcn.weights.official import from_official, is_official
from fastfcn.weights.openmmlab import from_openmmlab


def convert(checkpoint: str | Path, recipe_name: str, out: str | Path) -> list[str]:
    """Convert a published `checkpoint` to a weights file for the recipe; returns remarks to print.

    Reads checkpoints of mmsegmentation (0.x or 1.x) and of the official FastFCN code (`.pth.tar`), recognized by the
    names of their weights; nothing in them is executed. Raises WeightsError if weights are missing, unexpected or of
    the wrong shape (all are listed), and if the number of classes differs from that of the recipe's dataset.
    """
    recipe = recipes.load(recipe_name)
    description = build.description(recipe)
    content = read_checkpoint(checkpoint)
    model = build.network(recipe, len(description.classes))
    tensors = state_dict(content, checkpoint)
    renamed = from_official(tensors) if is_official(list(tensors)) else from_openmmlab(tensors)
    load_state(model, renamed, str(checkpoint))
    remarks = _compare_classes(content, [entry.name for entry in description.classes], checkpoint)
    weights.save(out, model, recipe, description, {"converted_from": Path(checkpoint).name})
    return remarks


def _compare_classes(content: dict, names: list[str], checkpoint: str | Path) -> list[str]:
    stored = checkpoint_classes(content)
    if stored is None:
        return [f"{checkpoint} has no class names; those of the recipe's dataset are used."]
    if len(stored) != len(names):
        raise WeightsError(
            f"{checkpoint} has {len(stored)} classes, the recipe's dataset {len(names)}.",
            "Choose another recipe.",
        )
    return [
        f"Class {index} is {stored_name!r} in the checkpoint and {name!r} in the recipe's dataset."
        for index, (stored_name, name) in enumerate(zip(stored, names, strict=True))
        if str(stored_name).lower().strip() != name.lower().strip()
    ]


def checkpoint_classes(content: dict) -> list[str] | None:
    """Class names in a checkpoint: mmsegmentation 1.x meta.dataset_meta.classes, 0.x meta.CLASSES; None without."""
    meta = content.get("meta")
    dataset_meta = meta.get("dataset_meta") if isinstance(meta, dict) else None
    for entries in (dataset_meta, meta):
        names = entries.get("classes", entries.get("CLASSES")) if isinstance(entries, dict) else None
        if isinstance(names, list | tuple):
            return list(names)
    return None
