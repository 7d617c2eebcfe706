"""Wrong pixels by what went wrong, in all and class by class; and how images spread."""

import numpy as np

from fastfcn.evaluation.analysis.collector import Findings
from fastfcn.evaluation.analysis.mistakes import KINDS
from fastfcn.report.account import Account
from fastfcn.report.charts import HEIGHT, svg, ticks
from fastfcn.report.classes import swatch
from fastfcn.report.markup import Markup, join, percent, tag

MEANINGS = (
    "within 0.5 % of the diagonal of a true edge: drawn beside its place",
    "away from edges: one class taken for another",
    "in a connected region of which less than a tenth was found",
)
LISTED = 14


def mistakes_section(accounts: list[Account]) -> Markup:
    """One bar of all wrong pixels for each run, the classes that lose most, and how images spread."""
    found = [each for each in accounts if each.findings]
    several = len(found) > 1
    bars = [_whole(each.findings, each.name if several else "") for each in found if each.findings]
    keys = [
        tag("li", tag("i", class_=f"key {kind}"), tag("b", kind), " ", tag("small", meaning))
        for kind, meaning in zip(KINDS, MEANINGS, strict=True)
    ]
    panels = [_by_class(each.findings, each.name if several else "") for each in found if each.findings]
    panels.append(_spread([(kind, each) for kind, each in zip(("mine", "theirs"), found, strict=False)]))
    top = tag("div", *bars, tag("ul", *keys, class_="keys"), class_="panel")
    return join(top, tag("div", *panels, class_="grid" if several else "grid wide"))


def _whole(findings: Findings, name: str) -> Markup:
    kinds, labelled = findings.mistakes.sum(0), max(int(findings.scores.counts.sum()), 1)
    wrong = int(kinds.sum())
    head = f"{100 * wrong / labelled:.2f} % of the labelled pixels are wrong"
    parts = []
    for kind, share in zip(KINDS, (kinds / max(wrong, 1)).tolist(), strict=True):
        told = f"{kind}: {percent(share, 1)} of the errors"
        shown = percent(share) if share > 0.07 else ""
        parts.append(tag("span", shown, class_=f"part {kind}", style=f"flex-grow:{share:.4f}", title=told))
    return join(tag("h3", f"{name}: {head}" if name else head), tag("div", *parts, class_="stack"))


def _by_class(findings: Findings, name: str) -> Markup:
    totals = findings.mistakes.sum(1)
    order = [index for index in np.argsort(-totals, kind="stable")[:LISTED].tolist() if totals[index]]
    rows = []
    for index in order:
        pixels = max(int(findings.scores.pixels[index]), 1)
        parts = [
            tag("span", class_=f"part {kind}", style=f"width:{100 * each / pixels:.2f}%",
                title=f"{kind}: {percent(each / pixels, 1)} of the class's pixels")
            for kind, each in zip(KINDS, findings.mistakes[index].tolist(), strict=True)
        ]  # fmt: skip
        about = findings.about.classes[index]
        share = percent(totals[index] / pixels)
        rows.append(tag("li", swatch(about.name, about.color), tag("span", *parts, class_="thin"), tag("b", share)))
    title = f"{name}: classes that lose most" if name else "Classes that lose most"
    note = tag("small", "Wrong pixels as a share of the class, most wrong pixels first")
    return tag("div", tag("h3", title), note, tag("ul", *rows, class_="bars"), class_="panel")


def _spread(found: list[tuple[str, Account]]) -> Markup:
    """How many images have which mIoU of their own."""
    histograms = [(kind, each.findings.spread) for kind, each in found if each.findings]
    most = max(int(each.max()) for _, each in histograms) or 1
    left, bottom, top = 34, HEIGHT - 28, 12
    parts = []
    for value in (each for each in ticks(0, most, 3) if each == int(each)):
        y = round(bottom - value / most * (bottom - top), 1)
        parts.append(tag("line", x1=left, x2=372, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", f"{value:.0f}", x=left - 6, y=y + 4, text_anchor="end"))
    bins = len(histograms[0][1])
    width = (372 - left) / bins
    part = width / len(histograms)
    for order, (kind, histogram) in enumerate(histograms):
        for index, each in enumerate(histogram.tolist()):
            height = each / most * (bottom - top)
            if each:
                parts.append(tag("rect", x=round(left + index * width + order * part + 0.8, 1),
                                 y=round(bottom - height, 1), width=round(part - 1.2, 1), height=round(height, 1),
                                 class_=f"bar {kind}"))  # fmt: skip
    for value in (0, 25, 50, 75, 100):
        x = left + value / 100 * (372 - left)
        parts.append(
            tag("text", str(value), x=round(x, 1), y=HEIGHT - 8, text_anchor="end" if value == 100 else "middle")
        )
    note = tag("small", "How many images have which mIoU of their own, over the classes in them")
    return tag("div", tag("h3", "How images spread"), note, svg("Images by mIoU", *parts), class_="panel")
