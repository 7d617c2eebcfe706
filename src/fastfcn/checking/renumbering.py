"""Renumber ids in all masks together with the class lists, so that every class keeps its name; or say why not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fastfcn.checking.check import DESCRIPTION, FolderReport
from fastfcn.checking.file_problems import misspelled_pairs
from fastfcn.checking.mask_fixing import MaskPlan
from fastfcn.data.class_lists import COUNTED, NUMBERED, ClassList, Color, is_counted, parse_class_list
from fastfcn.utils.sizes import IGNORE_INDEX

FREE = {"binary_255", "stretched_ids"}  # without renumbering, a class would be ignored; every class keeps its pixels
OPTIONAL = {"ids_from_one", "id_gaps"}


class RefusedError(Exception):
    """The reason why something is not changed."""


@dataclass
class ValueChange:
    """How the values of the copy follow from those of the folder: `table` maps each value of the masks to its new one.

    `lists` are the class lists to write in place of the folder's; others are copied. `notes` say what was not done.
    """

    table: dict
    lists: dict[Path, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def renumbering(report: FolderReport, accept: frozenset[str]) -> dict[int, int]:
    """The new id of each id in the masks; empty if no id changes."""
    kinds = {problem.kind for problem in report.problems}
    if not kinds & FREE and not (kinds & OPTIONAL and "renumber" in accept):
        return {}
    outliers = set(report.mask_ids.outliers) if "outliers" in accept else set()
    used = [entry.value for entry in report.values if isinstance(entry.value, int)]
    kept = [v for v in used if (v != IGNORE_INDEX or kinds & FREE) and v not in outliers]
    table = {value: number for number, value in enumerate(kept)}
    return table if any(value != number for value, number in table.items()) else {}


def plan_values(report: FolderReport, plan: MaskPlan, remaining: set, unchanged: int) -> ValueChange:
    """Decide which values change, and adapt the class lists. `remaining` are the values of the copy before renumbering.

    `unchanged` counts masks of the copy that stay as they are although they need a fix. Raises RefusedError if even
    without renumbering the class lists would not name the same values.
    """
    values = sorted(remaining)
    identity = {value: value for value in values}
    target = _target_ids(report, plan, identity)
    notes = []
    if target != identity:
        try:
            _refuse_renumbering(report, target, identity, unchanged)
            return ValueChange(target, _adapted(report, plan, target))
        except RefusedError as reason:
            what = "Colors are not converted to ids" if plan.colored else "Ids are not renumbered"
            notes.append(f"{what}: {reason}.")
            plan.to_ids = False
    return ValueChange(identity, _adapted(report, plan, identity), notes)


def _target_ids(report: FolderReport, plan: MaskPlan, identity: dict) -> dict:
    if plan.colored:
        return {value: plan.colors[value] for value in identity if value in plan.colors} if plan.to_ids else identity
    return identity | {old: new for old, new in renumbering(report, plan.accept).items() if old in identity}


def _refuse_renumbering(report: FolderReport, table: dict, same: dict, unchanged: int) -> None:
    """Raise RefusedError if the ids of some file could not follow."""
    if len(set(table.values())) < len(same):
        raise RefusedError("two values would become the same id")
    if unchanged:
        raise RefusedError(f"{unchanged} masks stay as they are and would keep their values")
    if (report.root / DESCRIPTION).is_file():
        raise RefusedError(f"{DESCRIPTION} gives the values their meaning; remove it from a copy of the folder first")
    if misspelled_pairs(report.dataset):
        raise RefusedError("masks with misspelled names have not been read; check and fix the copy again")
    if report.dataset.unlisted:
        raise RefusedError(f"the masks of {report.dataset.unlisted} images that are in no split list keep their values")


def _adapted(report: FolderReport, plan: MaskPlan, table: dict) -> dict[Path, str]:
    """The class lists that have to change, so that each names the same classes. Raises RefusedError."""
    old_values = [entry.value for entry in report.values]
    new_palette = _new_palette(report, plan, table)
    changed = {}
    for entry in report.class_lists:
        entries = entry.entries(old_values, report.palette)
        expected = {new: entry.classes[entries[old]].name for old, new in table.items() if old in entries}
        for text in _versions(entry, {new: entries[old] for old, new in table.items() if old in entries}):
            adapted = parse_class_list(entry.path, text)
            if _names(adapted, sorted(table.values()), new_palette) == expected:
                break
        else:
            name = entry.path.relative_to(report.root).as_posix()
            raise RefusedError(f"{name} cannot be adapted, so that classes would lose or change their names")
        if text != "\n".join(entry.lines):
            changed[entry.path] = text + "\n"
    return changed


def _names(class_list: ClassList, values: list, palette: Mapping[int, Color] | None) -> dict:
    names = class_list.assigned(values, palette)
    return {value: names[value] for value in values if value in names}


def _new_palette(report: FolderReport, plan: MaskPlan, table: dict) -> dict[int, Color] | None:
    if plan.colored:
        return {new: color for color, new in table.items()} if plan.to_ids else None
    if not report.palette:
        return None
    return {new: report.palette[old] for old, new in table.items() if old in report.palette}


def _versions(entry: ClassList, order: dict[int, int]):
    """Texts to try, the least changed first; `order` maps each new value to the class that it should have."""
    yield "\n".join(entry.lines)
    if not all(isinstance(value, int) for value in order):
        return
    if entry.ids:
        yield _with_ids(entry, order)
        return
    used = [order[value] for value in sorted(order)]
    hidden = [index for index, class_ in enumerate(entry.classes) if class_.name.lower() == "__ignore__"]
    unused = [index for index in range(len(entry.classes)) if index not in {*used, *hidden}]
    yield _in_order(entry, [*hidden, *used, *unused])
    yield _in_order(entry, [*hidden, *used])


def _in_order(entry: ClassList, order: list[int]) -> str:
    """The list with its classes in another order; comments and leading numbers stay where they are."""
    lines, slots = list(entry.lines), list(entry.numbers)
    leading = COUNTED if is_counted(entry.lines) else NUMBERED
    prefixes = [match[0] if (match := leading.match(entry.lines[number])) else "" for number in slots]
    for place, number in enumerate(slots):
        source = order[place] if place < len(order) else -1
        rest = entry.lines[slots[source]][len(prefixes[source]) :] if source >= 0 else ""
        lines[number] = prefixes[place] + rest if source >= 0 else ""
    while lines and not lines[-1]:
        lines.pop()
    return "\n".join(lines)


def _with_ids(entry: ClassList, order: dict[int, int]) -> str:
    """The list with new ids; classes that no mask contains take free ones."""
    lines, new_ids = list(entry.lines), {index: value for value, index in order.items()}
    free = iter(sorted(set(range(IGNORE_INDEX)) - set(order)))
    for index, number in enumerate(entry.numbers):
        new = new_ids[index] if index in new_ids else next(free)
        lines[number] = lines[number].replace(str(entry.ids[index]), str(new), 1)
    return "\n".join(lines)


def as_table(change: ValueChange) -> np.ndarray:
    """The change of ids as a table, uint8 (256,)."""
    table = np.arange(256, dtype=np.uint8)
    for old, new in change.table.items():
        table[old] = new
    return table
