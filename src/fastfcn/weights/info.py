"""`fastfcn info`: what a weights file contains, read from the file alone."""

from pathlib import Path
from typing import Any

from torch import Tensor

from fastfcn import weights
from fastfcn.recipes.inference import inference_settings
from fastfcn.recipes.recipe import Recipe
from fastfcn.weights.file import Weights

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # buffers of batch norms, not parameters
AUXILIARY = "auxiliary."  # the auxiliary head is used in training only


def info(path: str | Path) -> dict[str, Any]:
    """Describe a weights file; this is what `fastfcn info --json` prints. Raises WeightsError.

    Keys: `file`, `bytes`, `recipe`, `summary`, `network` (backbone, neck, head, mean, std), `parameters` (of the
    network used for predictions), `training_parameters` (with the auxiliary head), `inference` (how images are given to
    the network, in words: `text` and, with test-time augmentation, `tta`), `dataset`, `classes` (name, color,
    ids), `score` (saved with the weights: miou in percent, split, step; or converted_from), `published` (published
    scores, for converted weights only), `made` (time and versions; empty for files of older versions).
    """
    file = weights.read(path)
    recipe = file.recipe
    return {
        "file": str(path),
        "bytes": Path(path).stat().st_size,
        "recipe": recipe.name,
        "summary": recipe.summary,
        "network": network(recipe),
        "parameters": _parameters(file.tensors, (AUXILIARY,)),
        "training_parameters": _parameters(file.tensors),
        "inference": {
            "text": inference_settings(recipe).description,
            "tta": inference_settings(recipe, tta=True).description,
        },
        "dataset": {"name": file.description.name, "title": file.description.title},
        "classes": [entry.model_dump(mode="json") for entry in file.description.classes],
        "score": file.facts,
        "published": _published(file),
        "made": file.made,
    }


def network(recipe: Recipe) -> dict[str, Any]:
    """Names of backbone, neck and head, and the mean and standard deviation that images are normalized with."""
    return {
        "backbone": recipe.backbone.name,
        "neck": recipe.neck.kind,
        "head": recipe.head.kind,
        "mean": list(recipe.data.mean),
        "std": list(recipe.data.std),
    }


def score_line(info: dict[str, Any]) -> str:
    """The score of a weights file in one line: measured during training, published, or unknown."""
    score, published = info["score"], info["published"] or {}
    if "miou" in score:
        split = f" on {score['split']}" if "split" in score else ""
        step = f" after {score['step']} steps" if "step" in score else ""
        return f"mIoU {score['miou']:.2f}{split}{step}"
    if "miou" in published:
        return f"mIoU {published['miou']:.2f} (published); converted from {score['converted_from']}"
    if "converted_from" in score:
        return f"not recorded; converted from {score['converted_from']}"
    return "not recorded; measure it: fastfcn evaluate WEIGHTS --data FOLDER"


def millions(count: int) -> str:
    """A number of parameters, shortened from a million on."""
    return f"{count / 1e6:.1f} million" if count >= 1e6 else f"{count:,}"


def _parameters(tensors: dict[str, Tensor], without: tuple[str, ...] = ()) -> int:
    names = (name for name in tensors if not name.endswith(STATISTICS) and not name.startswith(without))
    return sum(tensors[name].numel() for name in names)


def _published(file: Weights) -> dict[str, Any] | None:
    """The published scores, if the file was converted from a published checkpoint."""
    published = file.recipe.published
    if published is None or "converted_from" not in file.facts:
        return None
    return published.model_dump(mode="json", exclude_none=True)
