"""The report as one HTML file: sections with their templates, style sheet and script included.

All values are escaped by Jinja. Only charts drawn by `charts.py`, the style sheet and the script are `Markup`.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fastfcn.report import error_analysis, run_details
from fastfcn.report.charts import SERIES, reliability_chart
from fastfcn.report.class_table import class_table
from fastfcn.report.filters import FILTERS
from fastfcn.report.run_report import RunReport
from fastfcn.report.summary import summarize, tiles

TEMPLATES = Path(__file__).parent / "templates"
# The browser refuses to load anything that is not in the file itself.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'"
)


class Section(NamedTuple):
    """A section of the page; `values` gives its template's variables, None leaves the section out."""

    title: str
    template: str
    values: Callable[[list[RunReport]], dict[str, Any] | None]

    @property
    def anchor(self) -> str:
        return self.title.lower().replace(" ", "-")


def render(runs: list[RunReport], created: str) -> str:
    """A report of one run, or of two side by side, as HTML; `created`: when and by which version it was made."""
    sections = []
    for section in SECTIONS:
        values = section.values(runs)
        if values is not None:
            sections.append((section, values))
    return _environment().get_template("page.html.j2").render(
        runs=runs, first=runs[0], sections=sections, tiles=tiles(runs), summary=summarize(runs), created=created
    )  # fmt: skip


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    environment.globals |= {
        "policy": CONTENT_SECURITY_POLICY,
        "style": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        "script": Markup((TEMPLATES / "script.js").read_text(encoding="utf-8")),
    }
    return environment


def _training(runs: list[RunReport]) -> dict[str, Any]:
    return {"charts": run_details.training_charts(runs)}


def _classes(runs: list[RunReport]) -> dict[str, Any] | None:
    table = class_table(runs)
    return {"table": table} if table else None


def _confusion(runs: list[RunReport]) -> dict[str, Any] | None:
    panels = [
        (run.name, error_analysis.confusion_matrix(run.analysis), error_analysis.largest_confusions(run.analysis))
        for run in runs
        if run.analysis
    ]
    return {"panels": panels} if panels else None


def _calibration(runs: list[RunReport]) -> dict[str, Any] | None:
    panels = []
    for series, run in zip(SERIES, runs, strict=False):
        if run.analysis is None:
            continue
        plain, scaling = run.analysis.reliability, run.analysis.temperature_scaling
        chart = reliability_chart(plain, scaling.reliability if scaling else None, series)
        panels.append((series, run.name, plain, scaling, chart))
    return {"panels": panels} if panels else None


def _errors(runs: list[RunReport]) -> dict[str, Any] | None:
    panels = [(run.name, error_analysis.error_summary(run.analysis)) for run in runs if run.analysis]
    if not panels:
        return None
    return {
        "panels": panels,
        "histogram": error_analysis.miou_histogram([run.analysis for run in runs if run.analysis]),
    }


def _images(runs: list[RunReport]) -> dict[str, Any] | None:
    groups = error_analysis.example_groups(runs)
    return {"groups": groups, "error_types": error_analysis.ERROR_TYPES} if groups else None


def _speed(runs: list[RunReport]) -> dict[str, Any] | None:
    table = run_details.speed_table(runs)
    return {"table": table} if table.rows else None


def _recipe(runs: list[RunReport]) -> dict[str, Any]:
    return {"differences": run_details.recipe_differences(runs), "recipes": run_details.recipe_views(runs)}


def _environments(runs: list[RunReport]) -> dict[str, Any]:
    return {"environment": run_details.environment_table(runs), "labels": run_details.label_table(runs)}


SECTIONS = (
    Section("Training", "training", _training),
    Section("Classes", "classes", _classes),
    Section("Confusion", "confusion", _confusion),
    Section("Calibration", "calibration", _calibration),
    Section("Errors", "errors", _errors),
    Section("Images", "images", _images),
    Section("Speed and memory", "speed", _speed),
    Section("Recipe", "recipe", _recipe),
    Section("Environment", "environment", _environments),
)
