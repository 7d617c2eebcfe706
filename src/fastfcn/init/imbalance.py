"""Which loss a recipe begins with, from how the pixels are shared out among the classes."""

from collections.abc import Sequence
from typing import Any

from fastfcn.init.choices import Choice
from fastfcn.losses import weights_from_counts

UNEVEN = 20  # times that the commonest class has as many pixels as the rarest
FEW = 0.1  # share of the pixels below which the one thing to find is drowned by what is around it
MANY = 30  # classes with more than this many weights are no longer to be set by hand


def draft_loss(names: Sequence[str], counts: Sequence[int]) -> Choice:
    """The section [loss] as a dictionary, and why; `counts` are pixels by class."""
    total = max(sum(counts), 1)
    shares = {name: count / total for name, count in zip(names, counts, strict=True) if count}
    rarest, commonest = min(shares, key=lambda name: shares[name]), max(shares, key=lambda name: shares[name])
    times = shares[commonest] / shares[rarest]
    least = f"{shares[rarest]:.2%}" if shares[rarest] >= 0.0001 else "less than 0.01%"
    seen = f"{commonest} has {shares[commonest]:.1%} of the pixels, {rarest} {least}"
    if len(names) == 2 and shares[rarest] < FEW:
        section: dict[str, Any] = {"kind": "dice", "dice": 1.0, "cross_entropy": 1.0, "mean_over": "labeled"}
        return Choice(section, f"{seen}: Dice counts how much of each class is found, however small it is.")
    if times < UNEVEN or len(shares) < 2:
        return Choice(
            {"kind": "cross_entropy", "mean_over": "labeled"}, f"{seen}: even enough for plain cross-entropy."
        )
    if len(names) > MANY:
        section = {"kind": "ohem", "threshold": 0.7, "min_kept": 0.1}
        return Choice(section, f"{seen}: learnt from is what is still hard, which rare classes are for longest.")
    weights = [round(each, 3) for each in weights_from_counts(counts, 0.5)]
    section = {"kind": "weighted_cross_entropy", "weights": weights, "mean_over": "labeled"}
    return Choice(section, f"{seen}: weights by the root of how rare a class is, 1 in the mean over the pixels.")
