"""The classes of a new dataset: names, colors and ignored values, from masks and label files."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastfcn.checking.check import FolderReport
from fastfcn.data.class_lists import NOT_IN_MASKS, ClassList, class_lists
from fastfcn.data.description import (
    MAX_CLASSES,
    DatasetDescription,
    IgnoredValue,
    SegmentationClass,
    description_names,
    load_description,
)
from fastfcn.errors import DataError
from fastfcn.init.colors import BACKGROUND, Color, distinct_colors

NOT_CLASSES = {"void", "ignore", "ignored", "__ignore__", "unlabelled", "unlabeled", "dontcare", "don't care"}
BLACK, WHITE, VOC_BORDER = (0, 0, 0), (255, 255, 255), (224, 224, 192)
IGNORED_NAME = "void"
REASON_255 = ("255 is ignored in training and evaluation, as is common.",)


@dataclass(frozen=True)
class Classes:
    """The classes and ignored values of a new dataset, and the reasons for them (one line each)."""

    classes: tuple[SegmentationClass, ...]
    ignored: tuple[IgnoredValue, ...]
    reasons: tuple[str, ...]


def choose_classes(report: FolderReport, class_names: Sequence[str] = ()) -> Classes:
    """Choose the classes of a folder. `class_names`, in the order of the mask values, override all other sources.

    Raises DataError if `class_names` do not fit the values, or if there are too few or too many values.
    """
    values = [entry.value for entry in report.values]
    if not 2 <= len(values) <= MAX_CLASSES + 1:
        raise DataError(
            f"The masks in {report.root} contain {len(values)} different value(s); needed are 2 to {MAX_CLASSES}.",
            f"See which: fastfcn check {report.root}",
        )
    if class_names:
        return _from_names(report, list(class_names), "--classes")
    lists = class_lists(report.root)
    if report.layout.catalog and not lists:
        known = load_description(report.layout.catalog)
        if _same_classes(known, values):
            return Classes(known.classes, known.ignored, (f"Layout and mask values match {known.title}.",))
    if report.labels_kind == "color":
        return _from_colors(report, lists[0] if lists else None)
    for class_list in lists:
        if len(names := class_list.assigned(values, report.palette)) >= 2:
            return _from_list(report, class_list, names)
    if not lists:
        return _unnamed(report, "")
    source, count = lists[0].path.relative_to(report.root).as_posix(), len(lists[0].classes)
    return _unnamed(report, f"{source} lists {count} classes, which do not match the values {values}; not used.")


def _from_list(report: FolderReport, class_list: ClassList, names: dict[int, str]) -> Classes:
    """Classes of masks of ids, from the names that a class list assigns to ids, in use or not. Raises DataError."""
    if len(names) > MAX_CLASSES:
        raise DataError(
            f"{class_list.path} names {len(names)} classes; there can be {MAX_CLASSES} at most.",
            "Remove those that no mask contains, or rename the file to leave it out.",
        )
    values, ignored = _values(report)
    ignored = [value for value in ignored if value not in names]
    unknown = [value for value in values if value not in names and value not in ignored]
    names = names | {value: f"class_{value}" for value in unknown}
    reasons = [f"Names from {class_list.path.relative_to(report.root).as_posix()}, {class_list.order}."]
    if unknown:
        reasons.append(f"It does not name {', '.join(map(str, unknown))}: rename these or move them to `ignored`.")
    created = _create(report, dict(sorted(names.items())), ignored, (*reasons, *(REASON_255 if ignored else ())))
    colors = {entry.name: entry.color for entry in class_list.classes if entry.color}
    classes = [entry.model_copy(update={"color": colors.get(entry.name, entry.color)}) for entry in created.classes]
    return Classes(tuple(classes), created.ignored, created.reasons)


def _from_names(report: FolderReport, names: list[str], source: str) -> Classes:
    """Assign names to ids or colors in ascending order; if there are more names than ids, name i belongs to id i."""
    values, ignored = _values(report)
    everything = [entry.value for entry in report.values]
    kept = [name for name in names if name.lower() != NOT_IN_MASKS]
    if len(kept) == len(values):
        pairs = list(zip(values, kept, strict=True))
    elif len(kept) == len(everything):
        pairs, ignored = list(zip(everything, kept, strict=True)), []
    elif report.labels_kind == "index" and len(kept) > max(values):
        pairs = list(enumerate(kept))
    else:
        shown = ", ".join(str(list(value) if isinstance(value, tuple) else value) for value in everything)
        raise DataError(
            f"{source} gives {len(kept)} names, but the masks in {report.root} contain {len(values)} classes: {shown}.",
            "Give one name per value, in this order; use `void` for values to ignore.",
        )
    reasons = (f"Names from {source}, in the order of the values.",) + (REASON_255 if ignored else ())
    return _create(report, dict(pairs), ignored, reasons)


def _from_colors(report: FolderReport, class_list: ClassList | None) -> Classes:
    """Color masks: names by color from a label file, else from the palette of a known dataset, else generic names."""
    colors = [entry.value for entry in report.values]
    names: dict[Color, str] = (
        {entry.color: entry.name for entry in class_list.classes if entry.color} if class_list else {}
    )
    reason = (
        f"Names by color from {class_list.path.relative_to(report.root).as_posix()}." if class_list and names else ""
    )
    if not names.keys() & set(colors):
        names, reason = _palette_names(colors)
    extra = [value for value in colors if value not in names]
    spare = next((value for value in (VOC_BORDER, BLACK, WHITE) if value in extra), None) if names else None
    ignored = [spare] if spare else []
    reasons = [reason] if reason else []
    if spare:
        reasons.append(f"{list(spare)} is not in that list: ignored.")
    if not names:
        return _unnamed(report, "")
    unknown = {value: f"class_{number}" for number, value in enumerate(v for v in extra if v != spare)}
    if unknown:
        reasons.append(f"{len(unknown)} colors are not in that list: rename them or move them to `ignored`.")
    return _create(report, names | unknown, ignored, tuple(reasons))


def _unnamed(report: FolderReport, note: str) -> Classes:
    values, ignored = _values(report)
    dark = values[0] in (0, BLACK)
    if len(values) == 2 and dark:
        names = {values[0]: "background", values[1]: "foreground"}
    else:
        numbers = values if report.labels_kind == "index" else range(len(values))
        names = {value: f"class_{number}" for value, number in zip(values, numbers, strict=True)}
    reasons = [note] if note else []
    reasons.append("No class names found in the folder: replace these by your own.")
    return _create(report, names, ignored, (*reasons, *(REASON_255 if ignored else ())))


def _values(report: FolderReport) -> tuple[list, list]:
    """The values that are classes, and the ignored ones: 255, unless it must be a class."""
    values = [entry.value for entry in report.values]
    if report.labels_kind == "color" or 255 not in values:
        return values, []
    others = [value for value in values if value != 255]
    stretched = any(problem.kind == "stretched_ids" for problem in report.problems)  # 0, 128, 255
    if len(others) < 2 or stretched:
        return values, []
    return others, [255]


def _create(report: FolderReport, names: dict, ignored: list, reasons: tuple[str, ...]) -> Classes:
    """Create classes from a mapping value -> name; names such as "void" become ignored values."""
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
    """The palette colors if they are distinct, else new ones; a background class gets a dark one."""
    own = {value: palette[value] for value in values if value in palette} if palette else {}
    if len(set(own.values())) < len(own) or all(len(set(color)) == 1 for color in own.values()):
        own = {}  # grays, or one color for several ids
    if not own and names and names[0].strip("_").lower() == "background":
        own[values[0]] = BACKGROUND
    new = iter(distinct_colors(len(values) - len(own), list(own.values())))
    return [own[value] if value in own else next(new) for value in values]


def _palette_names(colors: Sequence) -> tuple[dict[Color, str], str]:
    """Names by color from the known dataset with this palette: at least half of its classes, and all but one color."""
    best: DatasetDescription | None = None
    best_share = 0.5
    for known in map(load_description, description_names()):
        palette = set(known.colors)
        shared = len(palette & set(colors))
        if shared >= max(3, len(colors) - 1) and shared / len(palette) >= best_share:
            best, best_share = known, shared / len(palette)
    if best is None:
        return {}, ""
    return {entry.color: entry.name for entry in best.classes}, f"The colors are those of {best.title}."


def _same_classes(known: DatasetDescription, values: Sequence) -> bool:
    """Whether a folder with the layout of `known` also has its classes, and not other ones counted from 0.

    True if at least half of the classes occur, or if the ids have gaps, as those of a subset of the classes have.
    """
    present = [entry for entry in known.classes if set(entry.ids) & set(values)]
    ids = sorted(mask_id for entry in present for mask_id in entry.ids if mask_id in values)
    return len(present) >= len(known.classes) / 2 or ids != list(range(len(ids)))


def _unique(names: list[str]) -> list[str]:
    """Make `names` unique by appending a number to repeated ones."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return unique
