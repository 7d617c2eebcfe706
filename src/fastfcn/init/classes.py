"""The classes of a new dataset: names, colors and ignored values, from masks and label files."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fastfcn.checking.check import FolderReport
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

# Label files of CVAT and Datumaro, of SegNet's CamVid and its copies, and of LabelMe and similar tools.
COLOR_FILES = ("labelmap.txt", "label_map.txt", "label_colors.txt", "class_dict.csv", "colors.txt")
NAME_FILES = ("classes.txt", "class_names.txt", "labels.txt", "names.txt", "label_names.txt")
RGB = re.compile(r"(?<!\d)(\d{1,3})[,;\s]+(\d{1,3})[,;\s]+(\d{1,3})(?!\d)")


class ListedClass(NamedTuple):
    """A class in a label file; `color` is None if the file has no colors."""

    name: str
    color: Color | None


def listed_classes(root: Path) -> tuple[list[ListedClass], Path | None]:
    """Read the classes from a label file in `root` or a folder directly in it; returns the classes and the path.

    Files with colors are preferred, and among these the ones in `root` itself.
    """
    for names in (COLOR_FILES, NAME_FILES):
        for folder in _folders(root):
            present = {path.name.lower(): path for path in folder.iterdir() if path.is_file()}
            for path in (present[name] for name in names if name in present):
                if found := list(read_label_file(path)):
                    return found, path
    return [], None


def read_label_file(path: Path) -> Iterator[ListedClass]:
    """Yield the classes in the order of the file, without comments and headers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        text = path.read_text(encoding="latin-1")
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith(("#", "//")) or re.match(r"(name|label|class)\w*\s*[,:;]\s*r", line, re.I):
            continue
        numbers = RGB.search(line)
        color = tuple(map(int, numbers.groups())) if numbers else None
        if color and max(color) > 255:
            continue
        rest = line[: numbers.start()] + " " + line[numbers.end() :] if numbers else line
        name = _name(rest, path.name.lower() in COLOR_FILES)
        if name:
            yield ListedClass(name, color)  # type: ignore[arg-type] # three numbers


def _name(text: str, colored: bool) -> str:
    """The class name in a line without its color; CVAT adds parts and actions after colons."""
    text = text.strip(" ,;:\t\"'")
    parts = re.split(r"[:;,\t]", text) if colored else [text]
    name = next(filter(None, (part.strip(" \"'") for part in parts)), "")
    return re.sub(r"^\d+\s*[:.\s]\s*(?=\D)", "", name)  # "0: road"


def _folders(root: Path) -> list[Path]:
    try:
        return [root, *sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))]
    except OSError:
        return []


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
    listed, path = listed_classes(report.root)
    if report.layout.catalog and not listed:
        known = load_description(report.layout.catalog)
        if _same_classes(known, values):
            return Classes(known.classes, known.ignored, (f"Layout and mask values match {known.title}.",))
    if report.labels_kind == "color":
        return _from_colors(report, listed, path)
    names = [entry.name for entry in listed] or list(report.class_names)
    source = path.relative_to(report.root).as_posix() if path else "a list in the folder"
    if names and len(_kept(names)) >= 2 and _fits(report, names):
        named = _from_names(report, names, source)
        colors = {entry.name: entry.color for entry in listed if entry.color}
        recolored = [entry.model_copy(update={"color": colors.get(entry.name, entry.color)}) for entry in named.classes]
        return Classes(tuple(recolored), named.ignored, named.reasons)
    note = f"{source} lists {len(names)} classes, which do not match the values {values}; not used." if names else ""
    return _unnamed(report, note)


def _from_names(report: FolderReport, names: list[str], source: str) -> Classes:
    """Assign names to ids or colors in ascending order; if there are more names than ids, name i belongs to id i."""
    values, ignored = _values(report)
    everything = [entry.value for entry in report.values]
    kept = [name for name in names if name.lower() != "__ignore__"]  # LabelMe's name for -1, which is not in any mask
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


def _from_colors(report: FolderReport, listed: list[ListedClass], path: Path | None) -> Classes:
    """Color masks: names by color from a label file, else from the palette of a known dataset, else generic names."""
    colors = [entry.value for entry in report.values]
    names: dict[Color, str] = {entry.color: entry.name for entry in listed if entry.color}
    reason = f"Names by color from {path.relative_to(report.root).as_posix()}." if path and names else ""
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
        names = {value: f"class_{index}" for index, value in enumerate(values)}
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


def _fits(report: FolderReport, names: list[str]) -> bool:
    values, _ = _values(report)
    count = len(_kept(names))
    return count in (len(values), len(report.values)) or count > max(values)


def _kept(names: list[str]) -> list[str]:
    return [name for name in names if name.lower() != "__ignore__"]


def _unique(names: list[str]) -> list[str]:
    """Make `names` unique by appending a number to repeated ones."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return unique
