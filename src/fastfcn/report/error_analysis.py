"""Data of the report on wrong pixels: confusion matrix, largest confusions, error types, and example images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from fastfcn.data.description import SegmentationClass
from fastfcn.evaluation.analysis.analyze import Analysis
from fastfcn.evaluation.analysis.error_types import ERROR_TYPES
from fastfcn.evaluation.analysis.examples import ExampleImage
from fastfcn.report.charts import SERIES, histogram_chart
from fastfcn.report.filters import jpeg_uri, png_uri
from fastfcn.report.run_report import RunReport
from fastfcn.visualize import palette_image

MOST_WITH_NUMBERS, MOST_AS_TABLE = 12, 24  # classes up to which cells show numbers, and the matrix is a table
LISTED_CONFUSIONS, LISTED_CLASSES, LEGEND_CLASSES = 12, 14, 8
ERROR_COLORS = np.array([(0, 0, 0), (240, 170, 20), (226, 54, 112), (124, 92, 246)], np.uint8)  # by error type


class MatrixCell(NamedTuple):
    """The share of a true class's pixels predicted as some class, in percent; `tint` (0-100) is its color strength."""

    share: float
    tint: float


@dataclass(frozen=True)
class MatrixView:
    """A confusion matrix: `rows` of cells for few classes, else an image and the shares that its tooltip reads."""

    classes: tuple[SegmentationClass, ...]
    rows: list[list[MatrixCell]]
    with_numbers: bool
    image: str
    tooltip: dict


def confusion_matrix(analysis: Analysis) -> MatrixView:
    """Rows are true classes, columns are predicted ones."""
    counts, classes = analysis.scores.counts, analysis.description.classes
    with np.errstate(invalid="ignore"):
        shares = np.nan_to_num(100.0 * counts / counts.sum(1, keepdims=True))
    if len(classes) <= MOST_AS_TABLE:
        rows = [[MatrixCell(share, _tint(share)) for share in row] for row in shares.tolist()]
        return MatrixView(classes, rows, len(classes) <= MOST_WITH_NUMBERS, "", {})
    visible = [{int(j): round(float(row[j]), 1) for j in np.flatnonzero(row >= 0.05)} for row in shares]
    tooltip = {"names": analysis.description.class_names, "rows": visible}
    return MatrixView(classes, [], False, png_uri(_matrix_image(shares)), tooltip)


def _tint(share: float) -> float:
    """Color strength of a share (0-100); small shares remain visible."""
    return 0.0 if share < 0.05 else 6 + 94 * (share / 100) ** 0.6


def _matrix_image(shares: np.ndarray) -> Image.Image:
    """One pixel per cell; the diagonal has its own color."""
    pixels = np.zeros((*shares.shape, 4), np.uint8)
    diagonal = np.arange(len(shares))
    pixels[..., :3] = (214, 69, 65)
    pixels[diagonal, diagonal, :3] = (58, 111, 217)
    pixels[..., 3] = np.where(shares < 0.05, 0, 10 + 245 * (shares / 100) ** 0.5)
    return Image.fromarray(pixels)


class Confusion(NamedTuple):
    """Pixels of class `truth` predicted as `predicted`; as a share of the class's and of all wrong pixels (0-1)."""

    truth: SegmentationClass
    predicted: SegmentationClass
    pixels: int
    class_share: float
    error_share: float


def largest_confusions(analysis: Analysis) -> list[Confusion]:
    """At most twelve confusions, most pixels first."""
    counts = analysis.scores.counts.copy()
    np.fill_diagonal(counts, 0)
    wrong, pixels, classes = max(int(counts.sum()), 1), analysis.scores.pixels, analysis.description.classes
    order = np.argsort(-counts, axis=None, kind="stable")[:LISTED_CONFUSIONS]
    pairs = [divmod(int(position), len(counts)) for position in order]
    return [
        Confusion(
            classes[i], classes[j], int(counts[i, j]), float(counts[i, j] / pixels[i]), float(counts[i, j]) / wrong
        )
        for i, j in pairs
        if counts[i, j]
    ]


@dataclass(frozen=True)
class ClassErrors:
    """Wrong pixels of a class by error type, and in total, as fractions of the class's labeled pixels."""

    label: SegmentationClass
    by_type: Sequence[tuple[str, float]]
    total: float


@dataclass(frozen=True)
class ErrorSummary:
    """`wrong`: fraction of all labeled pixels; `by_type`: fractions of the wrong pixels; `classes`: the worst ones."""

    wrong: float
    by_type: Sequence[tuple[str, float]]
    classes: list[ClassErrors]


def error_summary(analysis: Analysis) -> ErrorSummary:
    """Error types in total, and for the classes with the most wrong pixels."""
    counts, labeled = analysis.error_counts, max(int(analysis.scores.counts.sum()), 1)
    wrong = int(counts.sum())
    totals = counts.sum(1)
    order = [index for index in np.argsort(-totals, kind="stable")[:LISTED_CLASSES].tolist() if totals[index]]
    classes = []
    for index in order:
        shares = (counts[index] / max(int(analysis.scores.pixels[index]), 1)).tolist()
        by_type = list(zip(ERROR_TYPES, shares, strict=True))
        classes.append(ClassErrors(analysis.description.classes[index], by_type, sum(shares)))
    total_shares = (counts.sum(0) / max(wrong, 1)).tolist()
    return ErrorSummary(wrong / labeled, list(zip(ERROR_TYPES, total_shares, strict=True)), classes)


def miou_histogram(analyses: list[Analysis]) -> str:
    """A chart of the number of images by their own mIoU."""
    histograms = [(series, analysis.miou_histogram) for series, analysis in zip(SERIES, analyses, strict=False)]
    return histogram_chart("Images by mIoU", histograms)


@dataclass(frozen=True)
class ExampleView:
    """An example image with its `views` (title, data URI); `other_miou` is that of the second run, if any."""

    example: ExampleImage
    other_miou: float | None
    views: list[tuple[str, str]]
    legend: list[SegmentationClass]
    more_classes: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        height, width = self.example.label.shape
        return height, width


def example_groups(runs: list[RunReport]) -> dict[str, list[ExampleView]]:
    """The worst and the best images of the first run, with the second run's prediction of the same images."""
    first = runs[0].analysis
    second = runs[1].analysis if len(runs) > 1 else None
    if first is None:
        return {}
    others = {example.index: example for example in (*second.worst, *second.best)} if second else {}
    names = [run.name for run in runs]
    groups = {"Worst": first.worst, "Best": first.best}
    return {
        title: [_example_view(first, example, others.get(example.index), names) for example in examples]
        for title, examples in groups.items()
        if examples
    }


def _example_view(
    analysis: Analysis, example: ExampleImage, other: ExampleImage | None, names: list[str]
) -> ExampleView:
    colors = dict.fromkeys(range(256), (0, 0, 0)) | dict(enumerate(analysis.description.colors))  # ignored: black

    def colored(labels: np.ndarray) -> str:
        return png_uri(palette_image(labels, colors))

    image, truth = ("Image", jpeg_uri(example.image)), ("Ground truth", colored(example.label))
    if other is None:
        views = [image, truth, ("Prediction", colored(example.prediction)), ("Errors", jpeg_uri(_error_image(example)))]
    else:  # one row of three for each run
        rows = [
            [(name, colored(shown.prediction)), (f"Errors, {name}", jpeg_uri(_error_image(shown)))]
            for name, shown in zip(names, (example, other), strict=True)
        ]
        views = [image, *rows[0], truth, *rows[1]]
    legend, more = _legend(analysis, example)
    return ExampleView(example, other.miou if other else None, views, legend, more)


def _error_image(example: ExampleImage) -> np.ndarray:
    """The image in light gray with wrong pixels in the color of their error type: RGB uint8 (h, w, 3)."""
    gray = example.image.astype(np.float32).mean(2, keepdims=True) * 0.4 + 140
    pixels = gray.repeat(3, 2)
    wrong = example.errors > 0
    pixels[wrong] = ERROR_COLORS[example.errors[wrong]]
    return np.rint(pixels).astype(np.uint8)


def _legend(analysis: Analysis, example: ExampleImage) -> tuple[list[SegmentationClass], int]:
    """The classes with the most pixels in label and prediction, and how many more there are."""
    classes = analysis.description.classes
    both = np.concatenate([example.label.ravel(), example.prediction.ravel()])
    counts = np.bincount(both, minlength=256)[: len(classes)]
    order = [index for index in np.argsort(-counts, kind="stable").tolist() if counts[index]]
    return [classes[index] for index in order[:LEGEND_CLASSES]], max(0, len(order) - LEGEND_CLASSES)
