"""What is taken for what: the confusion matrix, and its largest mistakes as a list."""

import json

import numpy as np
from PIL import Image

from fastfcn.evaluation.analysis.collector import Findings
from fastfcn.report.classes import swatch
from fastfcn.report.markup import Markup, count, png, tag

WRITTEN, CELLS = 12, 24  # up to so many classes a cell shows its figure; up to so many it is a cell of a table
LISTED = 12


def matrix_panel(findings: Findings, title: str = "") -> Markup:
    """Rows are true classes, columns predicted ones; a cell is the share of the row's pixels."""
    counts = findings.scores.counts
    with np.errstate(invalid="ignore"):
        shares = np.nan_to_num(100.0 * counts / counts.sum(1, keepdims=True))
    head = tag("h3", title) if title else Markup("")
    drawn = _cells(findings, shares) if len(counts) <= CELLS else _picture(findings, shares)
    return tag("div", head, drawn, class_="panel")


def _cells(findings: Findings, shares: np.ndarray) -> Markup:
    names = findings.about.class_names
    head = [tag("th", tag("span", name), scope="col") for name in names]
    body = []
    for true, row in enumerate(shares):
        cells = []
        for predicted, share in enumerate(row):
            shown = f"{share:.0f}" if share >= 0.5 and len(names) <= WRITTEN else ""
            told = f"{names[true]} called {names[predicted]}: {share:.1f} %"
            kind = "hit" if true == predicted else "slip"
            strong = " strong" if share > 55 else ""
            cells.append(tag("td", shown, class_=kind + strong, style=f"--v:{_ink(share):.0f}%", title=told))
        body.append(tag("tr", tag("th", swatch(names[true], findings.about.colors[true]), scope="row"), *cells))
    corner = tag("th", tag("small", "true ↓  predicted →"), class_="corner")
    table = tag("table", tag("thead", tag("tr", corner, *head)), tag("tbody", *body), class_="matrix")
    return tag("div", table, class_="scroll", tabindex=0)


def _ink(share: float) -> float:
    """How strongly a share is coloured: small ones show too."""
    return 0.0 if share < 0.05 else 6 + 94 * (share / 100) ** 0.6


def _picture(findings: Findings, shares: np.ndarray) -> Markup:
    """Too many classes for a table: a picture with a pixel a cell, and a line that reads it out."""
    pixels = np.zeros((*shares.shape, 4), np.uint8)
    pixels[..., :3] = (214, 69, 65)
    pixels[np.arange(len(shares)), np.arange(len(shares)), :3] = (58, 111, 217)
    pixels[..., 3] = np.where(shares < 0.05, 0, 10 + 245 * (shares / 100) ** 0.5)
    rows = [{int(j): round(float(row[j]), 1) for j in np.flatnonzero(row >= 0.05)} for row in shares]
    facts = {"names": findings.about.class_names, "rows": rows}
    image = tag("img", src=png(Image.fromarray(pixels)), alt="Confusion matrix", width=len(shares), height=len(shares))
    data = Markup(json.dumps(facts, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c"))
    return tag(
        "div",
        tag("div", image, class_="map"),
        tag("p", "Point at the picture to read it: rows are true classes, columns predicted ones.", class_="readout"),
        tag("script", data, type="application/json"),
        class_="bigmatrix",
    )


def largest_confusions(findings: Findings) -> list[tuple[int, int, float, int]]:
    """(true, predicted, share of the true class's pixels 0-100, pixels), most pixels first."""
    counts = findings.scores.counts.copy()
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:LISTED]
    pairs = [(int(place) // len(counts), int(place) % len(counts)) for place in order]
    pixels = findings.scores.pixels
    return [(a, b, 100 * float(counts[a, b] / pixels[a]), int(counts[a, b])) for a, b in pairs if counts[a, b]]


def confusion_list(findings: Findings, title: str) -> Markup:
    """The largest confusions in words."""
    wrong = findings.scores.counts.sum() - findings.scores.counts.trace()
    about = findings.about
    rows = [
        tag(
            "tr",
            tag("th", swatch(about.class_names[true], about.colors[true]), scope="row"),
            tag("td", swatch(about.class_names[predicted], about.colors[predicted])),
            tag("td", f"{share:.1f} %", class_="number"),
            tag("td", f"{100 * pixels / max(wrong, 1):.1f} %", class_="number"),
            tag("td", count(pixels), class_="number"),
        )
        for true, predicted, share, pixels in largest_confusions(findings)
    ]
    titles = ("True", "Called", "of its pixels", "of all errors", "pixels")
    head = [tag("th", each, scope="col", class_=None if index < 2 else "number") for index, each in enumerate(titles)]
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows))
    return tag("div", tag("h3", title), tag("div", table, class_="scroll", tabindex=0), class_="panel")
