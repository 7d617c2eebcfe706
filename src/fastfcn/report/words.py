"""What the figures say, in sentences, and the key figures as tiles."""

import numpy as np

from fastfcn.evaluation.analysis.bootstrap import paired_difference
from fastfcn.evaluation.analysis.collector import Findings
from fastfcn.report.account import Account
from fastfcn.report.classes import clear
from fastfcn.report.markup import Markup, interval, number, percent, signed, tag
from fastfcn.report.matrix import largest_confusions

EXTREME = 3  # classes that are named as weakest or strongest
OFF = 0.05  # ECE, and how far the temperature is from 1, before the network is called too sure or too modest


def sentences(accounts: list[Account]) -> list[Markup]:
    """The few things that a reader should know first."""
    mine = accounts[0].findings
    if mine is None:
        return []
    lines = [_of_score(mine)]
    theirs = accounts[1].findings if len(accounts) > 1 else None
    if theirs:
        lines.insert(0, _of_difference(accounts[0].name, accounts[1].name, mine, theirs))
    lines += [_of_classes(mine), *_of_confusion(mine), _of_mistakes(mine), *_of_calibration(mine), *_of_absent(mine)]
    return lines


def _p(*parts: str) -> Markup:
    return tag("li", *parts)


def _b(text: str) -> Markup:
    return tag("b", text)


def _of_score(found: Findings) -> Markup:
    low, high = found.intervals.miou
    if np.isnan(low):
        return _p("mIoU is ", _b(number(found.scores.miou)), " on a single image: nothing says how far it would move.")
    return _p(
        "mIoU is ", _b(number(found.scores.miou)), f" on {found.images} images. Had other images of the kind been "
        "taken, it would lie between ", _b(number(low)), " and ", _b(number(high)), " (95 %, bootstrap over images)."
    )  # fmt: skip


def _of_difference(name: str, other: str, mine: Findings, theirs: Findings) -> Markup:
    _, _, (low, high) = paired_difference(mine.intervals, theirs.intervals)
    gap = mine.scores.miou - theirs.scores.miou
    if clear(low, high) == "even":
        return _p(_b(name), f" and {other} differ by {signed(gap)} points of mIoU ({signed(low)} … {signed(high)}): ",
                  "chance in the choice of images could explain that.")  # fmt: skip
    word = "better" if gap > 0 else "worse"
    return _p(_b(name), f" is {word} than {other} by ", _b(number(abs(gap))),
              f" points of mIoU ({signed(low)} … {signed(high)}), more than the choice of images does.")  # fmt: skip


def _of_classes(found: Findings) -> Markup:
    iou, names = found.scores.iou, found.about.class_names
    known = [index for index in np.argsort(iou, kind="stable").tolist() if found.scores.pixels[index]]
    count = min(EXTREME, len(known) // 2)
    if not count:
        return _p("There are too few classes in the labels to compare.")
    weakest = ", ".join(f"{names[index]} ({number(iou[index])})" for index in known[:count])
    strongest = ", ".join(f"{names[index]} ({number(iou[index])})" for index in reversed(known[-count:]))
    return _p("Weakest: ", _b(weakest), f". Strongest: {strongest}.")


def _of_confusion(found: Findings) -> list[Markup]:
    pairs = largest_confusions(found)
    if not pairs:
        return []
    true, predicted, share, pixels = pairs[0]
    names = found.about.class_names
    wrong = found.scores.counts.sum() - found.scores.counts.trace()
    return [_p("The largest confusion: ", _b(f"{share:.0f}\u00a0% of {names[true]} is called {names[predicted]}"),
               f", {100 * pixels / wrong:.0f} % of all wrong pixels.")]  # fmt: skip


def _of_mistakes(found: Findings) -> Markup:
    boundary, confusion, missed = found.mistakes.sum(0).tolist()
    total = boundary + confusion + missed
    if not total:
        return _p("No pixel is wrong.")
    advice = max(
        (boundary, "finer maps, larger test images or cleaner masks would help most"),
        (confusion, "more examples of the confused classes, or longer training, would help most"),
        (
            missed,
            "class weights, larger crops, more examples or longer training would help most",
        ),
    )[1]
    shares = [percent(each / total) for each in (boundary, confusion, missed)]
    return _p(f"Of the wrong pixels {shares[0]} lie at edges, {shares[1]} are confusions, ",
              f"{shares[2]} are regions missed whole: ", _b(advice), ".")  # fmt: skip


def _of_calibration(found: Findings) -> list[Markup]:
    mended = found.calibrated
    if mended is None:
        return []
    ece = f"ECE {number(100 * found.reliability.ece)} %"
    if abs(np.log(mended.temperature)) < OFF and found.reliability.ece < OFF:
        return [_p("The network is about as often right as it is sure ", f"({ece}).")]
    word = "more sure than right" if mended.temperature > 1 else "less sure than it could be"
    if mended.reliability.ece >= mended.ece:
        return [_p("How sure the network is and how often it is right differ: ", _b(ece), ". No temperature mends it.")]
    return [_p("The network is ", _b(word), f" ({ece}). Scores divided by ", _b(number(mended.temperature, 2)),
               f" before softmax would mend that, down to {number(100 * mended.reliability.ece)} %.")]  # fmt: skip


def _of_absent(found: Findings) -> list[Markup]:
    absent = [name for name, pixels in zip(found.about.class_names, found.scores.pixels, strict=True) if not pixels]
    if not absent:
        return []
    named = ", ".join(absent[:8]) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
    verb = "has" if len(absent) == 1 else "have"
    return [_p(_b(named), f" {verb} no pixel in {found.split}: this report cannot tell how well they are found.")]


def tiles(accounts: list[Account]) -> Markup:
    """The key figures; of a second run below those of the first."""
    columns = [_figures(each) for each in accounts]
    parts = []
    for index, (title, value, note) in enumerate(columns[0]):
        lines = [tag("dt", title), tag("dd", value), tag("small", note)]
        lines += [tag("small", "against ", tag("b", other[index][1]), class_="theirs") for other in columns[1:]]
        parts.append(tag("div", *lines, class_="tile lead" if not index else "tile"))
    return tag("dl", *parts, class_="tiles")


def _figures(account: Account) -> list[tuple[str, str, str]]:
    found, recorded = account.findings, account.scores or {}
    if found is None:
        names = (("mIoU", "miou"), ("Mean accuracy", "mean_accuracy"), ("Pixel accuracy", "pixel_accuracy"))
        values = [(title, recorded.get(key)) for title, key in names]
        scored = f"from {account.history.scored}" if account.history.scored else ""
        return [(title, number(float("nan") if each is None else each), scored) for title, each in values]
    ranged = interval(*found.intervals.miou)
    with np.errstate(invalid="ignore"):
        boundary, dice = _mean(found.boundary_iou), _mean(found.dice)
    mended = found.calibrated
    return [
        ("mIoU", number(found.scores.miou), f"95 %: {ranged}"),
        (
            "Pixel accuracy",
            number(found.scores.pixel_accuracy),
            f"mean of classes {number(found.scores.mean_accuracy)}",
        ),
        ("Dice", number(dice), "mean of classes"),
        ("Boundary IoU", number(boundary), "mean of classes"),
        (
            "ECE",
            f"{number(100 * found.reliability.ece)} %",
            f"temperature {mended.temperature:.2f}" if mended else "",
        ),
        ("Speed", f"{1000 / found.speed.milliseconds:.3g}/s", f"{found.speed.milliseconds:.3g} ms an image"),
    ]


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
