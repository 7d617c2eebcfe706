"""The worst and the best images: image, truth, prediction, what went wrong."""

import numpy as np

from fastfcn.evaluation.analysis.collector import Findings
from fastfcn.evaluation.analysis.images import Shown
from fastfcn.evaluation.analysis.mistakes import KINDS
from fastfcn.report.account import Account
from fastfcn.report.classes import swatch
from fastfcn.report.markup import Markup, join, jpeg, number, png, tag
from fastfcn.visualize import palette_image

KIND_COLORS = np.array([(0, 0, 0), (240, 170, 20), (226, 54, 112), (124, 92, 246)], np.uint8)
NAMED = 8  # classes below an image


def gallery(accounts: list[Account]) -> Markup:
    """Images of the first run; of the second, its prediction of the same ones."""
    mine = accounts[0].findings
    theirs = accounts[1].findings if len(accounts) > 1 else None
    if mine is None:
        return Markup("")
    others = {each.index: each for each in (*theirs.worst, *theirs.best)} if theirs else {}
    names = [each.name for each in accounts]
    keys = tag("p", *(tag("span", tag("i", class_=f"key {kind}"), kind, " ") for kind in KINDS), class_="legend")
    parts = [keys]
    for title, group in (("Worst", mine.worst), ("Best", mine.best)):
        if group:
            cards = [_card(mine, each, others.get(each.index), names) for each in group]
            parts.append(join(tag("h3", title), tag("div", *cards, class_="cards")))
    return join(*parts)


def _card(findings: Findings, shown: Shown, other: Shown | None, names: list[str]) -> Markup:
    ignored = dict.fromkeys(range(256), (0, 0, 0)) | dict(enumerate(findings.about.colors))

    def map_of(label: np.ndarray) -> str:
        return png(palette_image(label, ignored))

    views = [("Image", jpeg(shown.image)), ("Truth", map_of(shown.label))]
    if other is None:
        views += [("Prediction", map_of(shown.prediction)), ("Errors", jpeg(_errors(shown)))]
    else:
        for place, (name, each) in enumerate(zip(names, (shown, other), strict=True)):  # a row for each run
            views.insert(3 * place + 1, (name, map_of(each.prediction)))
            views.insert(3 * place + 2, (f"Errors, {name}", jpeg(_errors(each))))
    height, width = shown.label.shape
    figures = [
        tag("figure", tag("img", src=src, alt=f"{name} of {shown.name}", width=width, height=height, loading="eager"),
            tag("figcaption", name))
        for name, src in views
    ]  # fmt: skip
    told = f"mIoU {number(shown.miou)}" + (f" against {number(other.miou)}" if other else "")
    head = tag("header", tag("b", shown.name), tag("span", told), tag("span", f"{number(shown.accuracy)} % right"))
    kind = "views six" if other else "views"
    return tag("article", head, tag("div", *figures, class_=kind), _legend(findings, shown), class_="panel card")


def _errors(shown: Shown) -> np.ndarray:
    """The image in pale grey with the wrong pixels in the colours of their kinds: RGB uint8 (h, w, 3)."""
    grey = shown.image.astype(np.float32).mean(2, keepdims=True) * 0.4 + 140
    grey = grey.repeat(3, 2)
    wrong = shown.kinds > 0
    grey[wrong] = KIND_COLORS[shown.kinds[wrong]]
    return np.rint(grey).astype(np.uint8)


def _legend(findings: Findings, shown: Shown) -> Markup:
    classes = findings.about.classes
    both = np.concatenate([shown.label.ravel(), shown.prediction.ravel()])
    counts = np.bincount(both, minlength=256)[: len(classes)]
    order = [index for index in np.argsort(-counts, kind="stable").tolist() if counts[index]]
    named = [swatch(classes[index].name, classes[index].color) for index in order[:NAMED]]
    more = [f"and {len(order) - NAMED} more"] if len(order) > NAMED else []
    return tag("p", *named, *more, class_="legend")
