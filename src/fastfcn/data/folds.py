"""Folds for cross-validation: a split such as "train+val fold 2/5", which keeps the frames of a video together."""

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from fastfcn.errors import DataError

_FOLD = re.compile(r"(?P<split>.*?)\s+(?P<others>not\s+)?fold\s+(?P<number>\d+)\s*/\s*(?P<count>\d+)", re.S)
_LAST_NUMBER = re.compile(r"(.*?)(\d+)(\D*)", re.S)


@dataclass(frozen=True)
class Fold:
    """Part `number` (from 1) of `count`, or with `others` everything else."""

    number: int
    count: int
    others: bool

    def select(self, names: Sequence[str]) -> set[int]:
        """The indices in `names` that belong to this fold. Raises DataError if there are fewer names than folds."""
        if len(names) < self.count:
            raise DataError(f"{len(names)} images cannot be divided into {self.count} folds.", "Use fewer folds.")
        order = _order(names)
        bounds = _bounds([prefix(names[index]) for index in order] if sequences(names) else [], len(order), self.count)
        members = set(order[bounds[self.number - 1] : bounds[self.number]])
        return set(range(len(names))) - members if self.others else members


def parse_fold(split: str) -> tuple[str, Fold | None]:
    """Divide "val fold 2/5" into the split and the fold; None without one. Raises DataError for an invalid fold."""
    match = _FOLD.fullmatch(split.strip())
    if not match:
        return split, None
    number, count = int(match["number"]), int(match["count"])
    if count < 2 or not 1 <= number <= count:
        raise DataError(
            f"Split {split!r}: there is no fold {number} of {count}.", 'Write, for example, "val fold 2/5".'
        )
    return match["split"], Fold(number, count, bool(match["others"]))


def fold_splits(split: str, number: int, count: int) -> tuple[str, str]:
    """The training and the validation split of one of `count` folds of `split`."""
    return f"{split} not fold {number}/{count}", f"{split} fold {number}/{count}"


def sequences(names: Sequence[str]) -> dict[str, list[str]]:
    """Group names by their text without the last number, if that suggests sequences; else empty.

    Condition: at least two groups have three names or more, and together 80 % of all names.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[prefix(name)].append(name)
    long = [group for group in groups.values() if len(group) >= 3]
    return dict(groups) if len(long) >= 2 and sum(map(len, long)) >= 0.8 * len(names) else {}


def prefix(name: str) -> str:
    """A name without its last number: what the frames of a sequence have in common."""
    match = _LAST_NUMBER.fullmatch(name)
    return match[1] + match[3] if match else name


def frame_number(name: str) -> int | None:
    """The last number in a name."""
    match = _LAST_NUMBER.fullmatch(name)
    return int(match[2]) if match else None


def _order(names: Sequence[str]) -> list[int]:
    """Indices in the order in which folds are cut: by sequence and number, or shuffled if there are no sequences.

    It depends on the names alone, not on the order in which they were found.
    """
    order = sorted(range(len(names)), key=lambda index: names[index])
    if sequences(names):
        return sorted(order, key=lambda index: (prefix(names[index]), frame_number(names[index]) or 0))
    random.Random(0).shuffle(order)
    return order


def _bounds(prefixes: list[str], total: int, count: int) -> list[int]:
    """Where folds begin and end: evenly, but moved to the border of a sequence within a quarter of a fold."""
    reach = total / count / 4
    borders = [index for index in range(1, len(prefixes)) if prefixes[index] != prefixes[index - 1]]
    bounds = [0]
    for fold in range(1, count):
        even = total * fold // count
        near = [border for border in borders if abs(border - even) <= reach]
        bounds.append(min(near, key=lambda border: abs(border - even)) if near else even)
    return [*bounds, total]
