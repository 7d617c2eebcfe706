"""From the values that masks hold to classes with names and colours, and to what is ignored."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastfcn.checking.check import FolderReport
from fastfcn.data.description import (
    MAX_CLASSES,
    DataSetDescription,
    IgnoredValue,
    SegmentationClass,
    description_names,
    load_description,
)
from fastfcn.errors import DataError
from fastfcn.init.colors import BACKGROUND, Color, distinct_colors
from fastfcn.init.label_files import Listed, listed_classes

NOT_CLASSES = {"void", "ignore", "ignored", "__ignore__", "unlabelled", "unlabeled", "dontcare", "don't care"}
BLACK, WHITE, VOC_BORDER = (0, 0, 0), (255, 255, 255), (224, 224, 192)
IGNORED_NAME = "void"
WHY_255 = ("255 is not trained on, by custom: other numbers are the classes.",)


@dataclass(frozen=True)
class Classes:
    """Classes and ignored values of a data set to be, and why they are these: a line each."""

    classes: tuple[SegmentationClass, ...]
    ignored: tuple[IgnoredValue, ...]
    reasons: tuple[str, ...]


def draft_classes(report: FolderReport, wanted: Sequence[str] = ()) -> Classes:
    """The classes of a folder; `wanted` are names in the order of the values, which come before all others.

    Raises DataError where `wanted` do not fit the values, and where there are too few or too many to be classes.
    """
    values = [each.value for each in report.values]
    if not 2 <= len(values) <= MAX_CLASSES + 1:
        raise DataError(
            f"The masks in {report.root} hold {len(values)} different value(s); classes are 2 to {MAX_CLASSES}.",
            f"Look at what they are: fastfcn check {report.root}",
        )
    if wanted:
        return _from_names(report, list(wanted), "--classes")
    listed, path = listed_classes(report.root)
    if report.layout.catalog and not listed:
        about = load_description(report.layout.catalog)
        if _published(about, values):
            return Classes(about.classes, about.ignored, (f"Files and values are those of {about.title}.",))
    if report.labels_kind == "color":
        return _from_colors(report, listed, path)
    names = [each.name for each in listed] or list(report.class_names)
    where = path.relative_to(report.root).as_posix() if path else "a list in the folder"
    if names and len(_kept(names)) >= 2 and _fits(report, names):
        found = _from_names(report, names, where)
        colors = {each.name: each.color for each in listed if each.color}
        recolored = [each.model_copy(update={"color": colors.get(each.name, each.color)}) for each in found.classes]
        return Classes(tuple(recolored), found.ignored, found.reasons)
    note = f"{where} names {len(names)} classes, which do not fit the values {values}: it is not used." if names else ""
    return _unnamed(report, note)


def _from_names(report: FolderReport, names: list[str], where: str) -> Classes:
    """MaskIds or colours in rising order by the names of a list; a list longer than that counts from 0."""
    values, ignored = _values(report)
    everything = [each.value for each in report.values]
    kept = [name for name in names if name.lower() != "__ignore__"]  # LabelMe's word for -1, which no mask holds
    if len(kept) == len(values):
        pairs = list(zip(values, kept, strict=True))
    elif len(kept) == len(everything):
        pairs, ignored = list(zip(everything, kept, strict=True)), []
    elif report.labels_kind == "index" and len(kept) > max(values):
        pairs = list(enumerate(kept))
    else:
        shown = ", ".join(str(list(each) if isinstance(each, tuple) else each) for each in everything)
        raise DataError(
            f"{where} gives {len(kept)} names, but the masks in {report.root} hold {len(values)} classes: {shown}.",
            "Give one name for each value, in this order; `void` is a name for what is to be ignored.",
        )
    reasons = (f"Names from {where}, in the order of the values.",) + (WHY_255 if ignored else ())
    return _made(report, dict(pairs), ignored, reasons)


def _from_colors(report: FolderReport, listed: list[Listed], path: Path | None) -> Classes:
    """Colour masks: names by colour from the folder's own list, else from a published palette, else numbers."""
    found = [each.value for each in report.values]
    names: dict[Color, str] = {each.color: each.name for each in listed if each.color}
    reason = f"Names by colour from {path.relative_to(report.root).as_posix()}." if path and names else ""
    if not names.keys() & set(found):
        names, reason = _palette_names(found)
    extra = [value for value in found if value not in names]
    spare = next((value for value in (VOC_BORDER, BLACK, WHITE) if value in extra), None) if names else None
    ignored = [spare] if spare else []
    reasons = [reason] if reason else []
    if spare:
        reasons.append(f"{list(spare)} is no class of that list: ignored.")
    if not names:
        return _unnamed(report, "")
    unknown = {value: f"class_{number}" for number, value in enumerate(v for v in extra if v != spare)}
    if unknown:
        reasons.append(f"{len(unknown)} colours are not in that list: name them, or move them to `ignored`.")
    return _made(report, names | unknown, ignored, tuple(reasons))


def _unnamed(report: FolderReport, note: str) -> Classes:
    values, ignored = _values(report)
    dark = values[0] in (0, BLACK)
    if len(values) == 2 and dark:
        names = {values[0]: "background", values[1]: "foreground"}
    else:
        names = {value: f"class_{index}" for index, value in enumerate(values)}
    reasons = [note] if note else []
    reasons.append("Nothing in the folder names the classes: put in your own names.")
    return _made(report, names, ignored, (*reasons, *(WHY_255 if ignored else ())))


def _values(report: FolderReport) -> tuple[list, list]:
    """Values that are classes, and those that are ignored: 255, by custom, unless it must be a class."""
    found = [each.value for each in report.values]
    if report.labels_kind == "color" or 255 not in found:
        return found, []
    others = [value for value in found if value != 255]
    stretched = any(each.kind == "stretched_ids" for each in report.problems)  # 0, 128, 255
    if len(others) < 2 or stretched:
        return found, []
    return others, [255]


def _made(report: FolderReport, names: dict, ignored: list, reasons: tuple[str, ...]) -> Classes:
    """Classes of value -> name; names such as "void" are ignored values, not classes."""
    skipped = {value: name for value, name in names.items() if name.lower() in NOT_CLASSES}
    skipped |= dict.fromkeys((value for value in ignored if value not in skipped), IGNORED_NAME)
    kept = {value: name for value, name in names.items() if value not in skipped}
    unique = _unique(list(kept.values()))
    if report.labels_kind == "color":
        classes = [SegmentationClass(name=name, color=value) for value, name in zip(kept, unique, strict=True)]
        void = [IgnoredValue(name=name, color=value) for value, name in skipped.items()]
    else:
        colors = class_colors(list(kept), unique, report.palette)
        classes = [
            SegmentationClass(name=name, color=color, ids=(value,))
            for value, name, color in zip(kept, unique, colors, strict=True)
        ]
        void = [IgnoredValue(name=name, ids=(value,)) for value, name in skipped.items()]
    return Classes(tuple(classes), tuple(void), reasons)


def class_colors(values: list[int], names: Sequence[str], palette: dict[int, Color] | None) -> list[Color]:
    """The colours of the palette where it has different ones, else new ones, of which a background's is dark."""
    own = {value: palette[value] for value in values if value in palette} if palette else {}
    if len(set(own.values())) < len(own) or all(len(set(color)) == 1 for color in own.values()):
        own = {}  # greys, or one colour for several
    if not own and names and names[0].strip("_").lower() == "background":
        own[values[0]] = BACKGROUND
    new = iter(distinct_colors(len(values) - len(own), list(own.values())))
    return [own[value] if value in own else next(new) for value in values]


def _palette_names(found: Sequence) -> tuple[dict[Color, str], str]:
    """Names by colour from the catalogue's data set whose palette this is: at least half of it, and all but one."""
    best: DataSetDescription | None = None
    share = 0.5
    for about in map(load_description, description_names()):
        known = set(about.colors)
        both = len(known & set(found))
        if both >= max(3, len(found) - 1) and both / len(known) >= share:
            best, share = about, both / len(known)
    if best is None:
        return {}, ""
    return {each.color: each.name for each in best.classes}, f"The colours are those of {best.title}."


def _published(about: DataSetDescription, values: Sequence) -> bool:
    """Whether values that lie in files as those of `about` are also meant so, not other classes counted from 0.

    They are where half of its classes occur, or where the numbers have gaps, as classes have that one does not see.
    """
    seen = [each for each in about.classes if set(each.ids) & set(values)]
    ids = sorted(number for each in seen for number in each.ids if number in values)
    return len(seen) >= len(about.classes) / 2 or ids != list(range(len(ids)))


def _fits(report: FolderReport, names: list[str]) -> bool:
    values, _ = _values(report)
    count = len(_kept(names))
    return count in (len(values), len(report.values)) or count > max(values)


def _kept(names: list[str]) -> list[str]:
    return [name for name in names if name.lower() != "__ignore__"]


def _unique(names: list[str]) -> list[str]:
    """`names` with a number behind those that occur again."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return unique
