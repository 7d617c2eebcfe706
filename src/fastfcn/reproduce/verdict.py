"""Comparison of measured with published scores, as JSON and as a row of Markdown."""

import math
import platform

from fastfcn.recipes.recipe import Recipe
from fastfcn.utils.provenance import command, package_versions, today

FIGURES = {"miou": "single scale", "miou_tta": "multi-scale and flip"}
COLUMNS = (
    "recipe", "data", "mIoU published", "measured", "ms+flip published", "measured", "tolerance", "verdict", "device",
    "date",
)  # fmt: skip

# Points of mIoU. For the same weights: published scores are rounded (0.005), and different versions of libraries for
# decoding, resizing and convolution change single pixels at borders. A wrong stride, resize or mean costs points.
TOLERANCE = 0.1
# For weights of another training: published scores are of one run each, and the spread between runs is not published.
# Users who trained OpenMMLab's configs got 0.48 and 1.02 less than its table (mmsegmentation issues 22 and 87);
# OpenMMLab calls 1.16 less "much lower" (issue 2196).
TRAINED_TOLERANCE = 1.0


def compare(published: float | None, measured: float | None, tolerance: float) -> dict:
    """Compare one score: `published`, `measured` (percent; None: not available), `difference` and `verdict`.

    The verdict is "holds" or "differs", or None if nothing was published.
    """
    measured = None if measured is None or math.isnan(measured) else measured
    difference = None if measured is None or published is None else round(measured - published, 4)
    holds = difference is not None and abs(difference) <= tolerance
    result = None if published is None else "holds" if holds else "differs"
    return {"published": published, "measured": measured, "difference": difference, "verdict": result}


def verdict(recipe: Recipe, measured: dict[str, dict], tolerance: float, weights: dict, data: dict) -> dict:
    """The full verdict: "holds" if no measured score differs from the published one.

    `measured`: the record of each of FIGURES that was measured ("scores", "device", "date", "seconds").
    """
    published = recipe.published.model_dump() if recipe.published else {}
    figures = {}
    for name, record in measured.items():
        compared = compare(published.get(name), record["scores"]["miou"], tolerance)
        figures[name] = compared | {key: record[key] for key in ("device", "date", "seconds")}
    return {
        "recipe": recipe.name,
        "summary": recipe.summary,
        "verdict": "differs" if any(figure["verdict"] == "differs" for figure in figures.values()) else "holds",
        "tolerance": tolerance,
        "figures": figures,
        "source": published.get("source"),
        "weights": weights,
        "data": data,
        "command": command(),
        "date": today(),
        "versions": {"python": platform.python_version()} | package_versions(),
    }


def markdown_row(verdict: dict) -> str:
    """The verdict as a table row with COLUMNS."""
    cells = [f"`{verdict['recipe']}`", f"{verdict['data']['dataset']} {verdict['data']['split']}"]
    for name in FIGURES:
        figure = verdict["figures"].get(name, {})
        cells += [percent(figure.get("published")), percent(figure.get("measured"))]
    devices = ", ".join(dict.fromkeys(figure["device"] for figure in verdict["figures"].values()))
    cells += [f"{verdict['tolerance']:g}", verdict["verdict"], devices, verdict["date"]]
    return f"| {' | '.join(cells)} |"


def percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
