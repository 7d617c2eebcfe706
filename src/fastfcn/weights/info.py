"""`fastfcn info`: what a weights file is, read from the file alone."""

from pathlib import Path

from torch import Tensor

from fastfcn import weights
from fastfcn.recipes.recipe import Recipe
from fastfcn.weights.file import Weights

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of batch norms: kept, not learnt
AUXILIARY = "auxiliary."  # the head that helps in training and is gone in predictions


def info(path: str | Path) -> dict:
    """What `fastfcn info --json` prints. Raises WeightsError.

    `file`, `bytes`, `recipe`, `summary`, `network` (kinds of backbone, neck and head), `parameters` (of the network
    that predicts) and `training_parameters` (more, with an auxiliary head), `dataset`, `classes` (name, color, ids),
    `score` (noted when the weights were saved: miou in percent, split, step; or converted_from), `published` (what the
    recipe's source says of such weights), `made` (time and versions; empty in files older than that).
    """
    held = weights.read(path)
    used = held.recipe
    return {
        "file": str(path),
        "bytes": Path(path).stat().st_size,
        "recipe": used.name,
        "summary": used.summary,
        "network": network(used),
        "parameters": _parameters(held.tensors, (AUXILIARY,)),
        "training_parameters": _parameters(held.tensors),
        "dataset": {"name": held.description.name, "title": held.description.title},
        "classes": [each.model_dump(mode="json") for each in held.description.classes],
        "score": held.facts,
        "published": _published(held),
        "made": held.made,
    }


def network(used: Recipe) -> dict:
    """Backbone, neck and head by name, and what an image is normalised with."""
    return {
        "backbone": used.backbone.name,
        "neck": used.neck.kind,
        "head": used.head.kind,
        "mean": list(used.data.mean),
        "std": list(used.data.std),
    }


def _parameters(tensors: dict[str, Tensor], without: tuple[str, ...] = ()) -> int:
    learnt = (name for name in tensors if not name.endswith(STATISTICS) and not name.startswith(without))
    return sum(tensors[name].numel() for name in learnt)


def _published(held: Weights) -> dict | None:
    """Published scores say something of published weights only."""
    published = held.recipe.published
    if published is None or "converted_from" not in held.facts:
        return None
    return published.model_dump(mode="json", exclude_none=True)
