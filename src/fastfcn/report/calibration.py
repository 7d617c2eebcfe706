"""The section on calibration: reliability curves, ECE, and the temperature that would mend it."""

import numpy as np

from fastfcn.evaluation.analysis.calibration import Calibrated, Reliability
from fastfcn.evaluation.analysis.collector import Findings
from fastfcn.report.account import Account
from fastfcn.report.charts import svg
from fastfcn.report.markup import Markup, join, number, percent, tag

SIDE, EDGE, FLOOR = 380, 46, 56  # of the square's picture, its margin, and of the histogram below


def calibration_section(accounts: list[Account]) -> Markup:
    """Reliability of every run that was evaluated, side by side."""
    found = [(kind, each) for kind, each in zip(("mine", "theirs"), accounts, strict=False) if each.findings]
    several = len(found) > 1
    panels = [_panel(kind, each.name if several else "", each.findings) for kind, each in found if each.findings]
    return tag("div", *panels, class_="grid wide")


def _panel(kind: str, name: str, findings: Findings) -> Markup:
    plain, mended = findings.reliability, findings.calibrated
    curve = reliability_chart(plain, mended.reliability if mended else None, kind)
    legend = tag(
        "figcaption",
        tag("b", name or "Reliability"),
        tag("span", tag("i", class_=f"key {kind}"), "as trained"),
        *([tag("span", tag("i", class_="key good"), "at the temperature")] if mended else ()),
    )
    return tag("div", tag("figure", legend, curve, class_="chart"), _facts(plain, mended), class_="panel split")


def _facts(plain: Reliability, mended: Calibrated | None) -> Markup:
    rows = [("ECE", f"{number(100 * plain.ece, 2)} %", "mean gap between how sure and how often right")]
    if mended:
        edge = "the end of what was tried" if mended.bounded else "scores are divided by it before softmax"
        rows += [
            ("Temperature", number(mended.temperature, 2), edge),
            ("ECE at it", f"{number(100 * mended.reliability.ece, 2)} %", f"of {mended.sampled:,} pixels drawn"),
            ("Log loss", f"{mended.loss[0]:.3f} → {mended.loss[1]:.3f}", "nats a pixel, least at that temperature"),
        ]
    lines = [tag("div", tag("dt", key), tag("dd", tag("b", value), tag("small", note))) for key, value, note in rows]
    return tag("dl", *lines, class_="facts")


def reliability_chart(plain: Reliability, mended: Reliability | None, kind: str) -> Markup:
    """Accuracy over confidence in bins, the diagonal of perfect calibration, and the share of pixels in each bin."""
    inner = SIDE - EDGE - 12

    def across(value: float) -> float:
        return round(EDGE + value * inner, 1)

    def down(value: float) -> float:
        return round(12 + (1 - value) * inner, 1)

    parts = []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(tag("line", x1=EDGE, x2=across(1), y1=down(value), y2=down(value), class_="grid"))
        parts.append(tag("text", percent(value), x=EDGE - 6, y=down(value) + 4, text_anchor="end"))
        anchor = "end" if value == 1 else "middle"
        parts.append(tag("text", percent(value), x=across(value), y=SIDE + FLOOR + 14, text_anchor=anchor))
    parts.append(tag("line", x1=across(0), y1=down(0), x2=across(1), y2=down(1), class_="ideal"))
    for each, colour in ((mended, "good"), (plain, kind)):
        if each is not None:
            parts += _bins(each, colour, across, down)
    parts.append(_shares(plain, kind, across))
    parts.append(tag("text", "how often right", x=EDGE + 8, y=26))
    parts.append(tag("text", "how sure", x=across(1) - 4, y=SIDE - 10, text_anchor="end"))
    return svg("Reliability: accuracy over confidence", *parts, width=SIDE, height=SIDE + FLOOR + 20)


def _bins(reliability: Reliability, kind: str, across, down) -> list[Markup]:
    known = reliability.pixels > 0
    places = list(zip(reliability.confidence[known], reliability.accuracy[known], strict=True))
    line = tag("polyline", points=" ".join(f"{across(x)},{down(y)}" for x, y in places), class_=f"line {kind}")
    return [line, *(tag("circle", cx=across(x), cy=down(y), r=3.6, class_=f"dot {kind}") for x, y in places)]


def _shares(reliability: Reliability, kind: str, across) -> Markup:
    shares = reliability.pixels / max(reliability.pixels.sum(), 1)
    heights = np.where(shares > 0, np.maximum(shares / max(shares.max(), 1e-9) * (FLOOR - 8), 1), 0)
    width = (across(1) - across(0)) / len(shares)
    bars = [
        tag("rect", x=round(across(0) + index * width + 1, 1), y=round(SIDE + FLOOR - height, 1),
            width=round(width - 2, 1), height=round(height, 1), class_=f"bar {kind}")
        for index, height in enumerate(heights)
    ]  # fmt: skip
    return join(*bars)
