"""What a weights file contains, read from the file alone, without PyTorch."""

import math
from pathlib import Path
from typing import Any

from fastfcn.recipes.inference import inference_settings
from fastfcn.recipes.recipe import Recipe
from fastfcn.weights.header import Header, Shapes, read_header

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # buffers of batch norms, not parameters
AUXILIARY = "auxiliary."  # the auxiliary head is used in training only


def info(path: str | Path) -> dict[str, Any]:
    """Describe a weights file, whose checksum is verified. Raises WeightsError.

    Keys: `file`, `format` ("weights"), `bytes`, `parameters` (of the network used for predictions),
    `training_parameters` (with the auxiliary head), `recipe`, `summary`, `network` (backbone, neck, head, mean, std,
    and bands if the images are not RGB),
    `inference` (how images are given to the network, in words: `text` and, with test-time augmentation, `tta`),
    `dataset`, `classes` (name, color, ids), `score` (saved with the weights: miou in percent, split, step; or
    converted_from), `published` (published scores, for converted weights only), `made` (time and versions; empty for
    files of older versions).
    """
    header, shapes = read_header(path)
    return {
        "file": str(path),
        "format": "weights",
        "bytes": Path(path).stat().st_size,
        "parameters": _parameters(shapes, (AUXILIARY,)),
        "training_parameters": _parameters(shapes),
        **describe(header),
    }


def describe(header: Header) -> dict[str, Any]:
    """The entries that weights files and exported files have in common; see `info`."""
    recipe, description = header.recipe, header.description
    return {
        "recipe": recipe.name,
        "summary": recipe.summary,
        "network": network(recipe),
        "inference": {
            "text": inference_settings(recipe).description,
            "tta": inference_settings(recipe, tta=True).description,
        },
        "dataset": {"name": description.name, "title": description.title},
        "classes": [entry.model_dump(mode="json") for entry in description.classes],
        "score": header.facts,
        "published": _published(header),
        "made": header.made,
    }


def network(recipe: Recipe) -> dict[str, Any]:
    """Names of backbone, neck and head, and the mean and standard deviation that images are normalized with."""
    return {
        "backbone": recipe.backbone.name,
        "neck": recipe.neck.kind,
        "head": recipe.head.kind,
        "mean": list(recipe.data.mean),
        "std": list(recipe.data.std),
    } | ({"bands": list(recipe.data.bands)} if recipe.data.bands else {})


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


def _parameters(shapes: Shapes, without: tuple[str, ...] = ()) -> int:
    names = (name for name in shapes if not name.endswith(STATISTICS) and not name.startswith(without))
    return sum(math.prod(shapes[name]) for name in names)


def _published(header: Header) -> dict[str, Any] | None:
    """The published scores, if the file was converted from a published checkpoint."""
    published = header.recipe.published
    if published is None or "converted_from" not in header.facts:
        return None
    return published.model_dump(mode="json", exclude_none=True)
