"""Class lists in a folder, such as classes.txt and labelmap.txt: their classes, and which mask value each one names."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from fastfcn.errors import DataError
from fastfcn.utils.sizes import IGNORE_INDEX
from fastfcn.utils.text import decode_legacy, has_raw_bytes, read_text

Color = tuple[int, int, int]
# Label files of CVAT and Datumaro, of SegNet's CamVid and its copies, and of LabelMe and similar tools.
COLOR_FILES = ("labelmap.txt", "label_map.txt", "label_colors.txt", "class_dict.csv", "colors.txt")
ID_FILES = ("_classes.csv",)  # Roboflow: "Pixel Value, Class"
NAME_FILES = ("classes.txt", "class_names.txt", "labels.txt", "names.txt", "class_list.txt", "label_names.txt")
RGB = re.compile(r"(?<!\d)(\d{1,3})[,;\s]+(\d{1,3})[,;\s]+(\d{1,3})(?!\d)")
NUMBERED = re.compile(r"\d+\s*[:.]\s*(?=\D)")  # "0: road"; but "3 wheeler" is a name
COUNTED = re.compile(r"\s*(\d+)\s*[,;\s]\s*(?=\S)")  # "0 road" or "0,road", if all lines are counted
WITH_ID = re.compile(r"\s*(\d{1,3})\s*[,;:\t]\s*(?=\D)")  # "7: road" or "7,road", if all lines are like that
COMMENTS = ("#", "//")
NOT_IN_MASKS = "__ignore__"  # LabelMe's name for -1


class ListedClass(NamedTuple):
    """A class in a label file; `color` is None if the file has no colors."""

    name: str
    color: Color | None


@dataclass(frozen=True)
class ClassList:
    """The classes of one file. `ids` has the id of each class if the file gives ids, else it is empty.

    `lines` are the lines of the file and `numbers` the line of each class, counted from 0. `guessed`: the file is not
    UTF-8 and was read as Windows-1252, so that letters can be wrong.
    """

    path: Path
    classes: tuple[ListedClass, ...]
    ids: tuple[int, ...]
    lines: tuple[str, ...]
    numbers: tuple[int, ...]
    guessed: bool = False

    def assigned(self, values: Sequence, palette: Mapping[int, Color] | None = None) -> dict:
        """The names of values (ids, or colors if the masks contain colors), in use or not; see `entries`."""
        return {value: self.classes[index].name for value, index in self.entries(values, palette).items()}

    def entries(self, values: Sequence, palette: Mapping[int, Color] | None = None) -> dict:
        """The index in `classes` of each value that has a name, in use or not.

        Ids are named by the ids in the file; else by the colors that the `palette` of the masks gives them; else by
        position (`by_position`). Empty if the file does not fit the values.
        """
        colors = {entry.color: index for index, entry in enumerate(self.classes) if entry.color}
        if values and isinstance(values[0], tuple):
            return colors
        if self.ids:
            return {value: index for index, value in enumerate(self.ids)}
        if palette and colors and all(palette.get(value) in colors for value in values if value != IGNORE_INDEX):
            return {value: colors[palette[value]] for value in values if palette.get(value) in colors}
        kept = [index for index, entry in enumerate(self.classes) if entry.name.lower() != NOT_IN_MASKS]
        return by_position(kept, values)

    @property
    def order(self) -> str:
        """How the list names values, for messages."""
        return "by id" if self.ids else "in the order of the values"


def by_position(classes: Sequence[int], values: Sequence[int]) -> dict[int, int]:
    """Assign classes without ids to the ids in masks; 255 gets one only if it has to be a class. Empty if none fit.

    There may be one for each id in use, in ascending order, or for the ids 0, 1, 2, ... whether in use or not.
    """
    ids = [value for value in values if value != IGNORE_INDEX]
    if IGNORE_INDEX in values and len(ids) < 2:
        ids = list(values)
    consecutive = ids == list(range(len(ids)))
    if len(classes) == len(ids):
        return dict(zip(ids, classes, strict=True))
    if len(classes) == len(values) and (consecutive or len(classes) <= max(ids, default=0)):
        return dict(zip(values, classes, strict=True))
    return dict(enumerate(classes)) if ids and len(classes) > max(ids) else {}


def class_lists(root: Path, remarks: list[str] | None = None) -> list[ClassList]:
    """All label files in `root` or a folder directly in it that name classes.

    Files with colors come first, then files with ids; among these, the ones in `root` itself. What is wrong with files
    that cannot be read, or not for certain, is added to `remarks`.
    """
    lists, remarks = [], [] if remarks is None else remarks
    for path in _label_files(root):
        try:
            entries = read_class_list(path)
        except DataError as error:
            remarks.append(error.message.rstrip("."))
            continue
        if entries.guessed:
            remarks.append(f"{path} is not UTF-8 and was read as Windows-1252: letters in names may be wrong")
        if entries.classes:
            lists.append(entries)
    return lists


def _label_files(root: Path) -> list[Path]:
    present = [_files_by_name(folder) for folder in _folders(root)]
    return [
        files[name]
        for names in (COLOR_FILES, ID_FILES, NAME_FILES)
        for files in present
        for name in names
        if name in files
    ]


def read_class_list(path: Path) -> ClassList:
    """Read a label file; its classes are empty if it names none. Raises DataError if it cannot be read."""
    text = read_text(path, "surrogateescape")
    return replace(parse_class_list(path, decode_legacy(text)), guessed=has_raw_bytes(text))


def parse_class_list(path: Path, text: str) -> ClassList:
    """The classes in `text`, in the order of its lines, without comments and headers; `path` chooses the format."""
    lines = tuple(text.removesuffix("\n").split("\n"))
    colored = path.name.lower() in COLOR_FILES or all(RGB.search(line) for line in lines if line.strip())
    if path.name.lower() in ID_FILES:
        parse = _with_id
    elif path.suffix.lower() == ".csv":
        parse = _csv_row
    elif not colored and _has_ids(lines):
        parse = _after_id
    else:
        parse = partial(_without_id, colored=colored, counted=is_counted(lines))
    parsed = [(number, entry) for number, line in enumerate(lines) if (entry := parse(line.strip()))]
    ids = tuple(entry[0] for _, entry in parsed if entry[0] is not None)
    return ClassList(path, tuple(entry[1] for _, entry in parsed), ids, lines, tuple(number for number, _ in parsed))


def is_counted(lines: Sequence[str]) -> bool:
    """Whether each line begins with its position, as in "0 road", "1 sidewalk"."""
    return _is_count(_leading_numbers(COUNTED, lines))


def _has_ids(lines: Sequence[str]) -> bool:
    """Whether each line begins with an id, as in "0: road", "7: sidewalk", and not with its position."""
    ids = _leading_numbers(WITH_ID, lines)
    distinct = len(ids) > 1 and None not in ids and len(set(ids)) == len(ids)
    return distinct and not _is_count(ids) and max(number or 0 for number in ids) <= IGNORE_INDEX


def _is_count(numbers: list[int | None]) -> bool:
    return len(numbers) > 1 and numbers in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))


def _leading_numbers(pattern: re.Pattern[str], lines: Sequence[str]) -> list[int | None]:
    matches = [pattern.match(line) for line in lines if line.strip() and not line.startswith(COMMENTS)]
    return [int(match[1]) if match else None for match in matches]


def _cells(line: str) -> list[str]:
    """The cells of a line of a CSV file, quotes resolved; separated by commas, semicolons or tabs."""
    delimiter = max(",;\t", key=line.count)
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])]


def _with_id(line: str) -> tuple[int, ListedClass] | None:
    """A row of Roboflow's `_classes.csv`: a mask value and a name."""
    number, *names = _cells(line) or [""]
    if len(names) != 1 or not names[0] or not re.fullmatch(r"[0-9]{1,3}", number) or int(number) > IGNORE_INDEX:
        return None
    return int(number), ListedClass(names[0], None)


def _after_id(line: str) -> tuple[int, ListedClass] | None:
    """A line of a text file: an id and a name."""
    match = WITH_ID.match(line)
    name = line[match.end() :].strip(" \t\"'") if match else ""
    return (int(match[1]), ListedClass(name, None)) if match and name else None


def _csv_row(line: str) -> tuple[None, ListedClass] | None:
    """A row with one name, and red, green and blue if it has three numbers."""
    cells = _cells(line)
    numbers = [int(cell) for cell in cells if re.fullmatch(r"[0-9]{1,9}", cell)]
    names = [cell for cell in cells if cell and not re.fullmatch(r"[0-9]{1,9}", cell)]
    if len(names) != 1 or not numbers or max(numbers) > 255:
        return None  # a header
    color = (numbers[-3], numbers[-2], numbers[-1]) if len(numbers) >= 3 else None
    return None, ListedClass(names[0], color)


def _without_id(line: str, colored: bool, counted: bool) -> tuple[None, ListedClass] | None:
    """A line with a name; with a color if the file is `colored`, after its position if it is `counted`."""
    if not line or line.startswith(COMMENTS) or re.match(r"(name|label|class)\w*\s*[,:;]\s*r", line, re.I):
        return None
    if counted and not colored:
        line = COUNTED.sub("", line, count=1)
    numbers = RGB.search(line) if colored else None
    color = tuple(map(int, numbers.groups())) if numbers else None
    if color and max(color) > 255:
        return None
    rest = line[: numbers.start()] + " " + line[numbers.end() :] if numbers else line
    name = _name(rest, colored)
    return (None, ListedClass(name, color)) if name else None  # type: ignore[arg-type] # three numbers


def _name(text: str, colored: bool) -> str:
    """The class name in a line without its color; CVAT adds parts and actions after colons."""
    text = text.strip(" ,;:\t\"'")
    parts = re.split(r"[:;,\t]", text) if colored else [text]
    name = next(filter(None, (part.strip(" \"'") for part in parts)), "")
    return re.sub(rf"^{NUMBERED.pattern}", "", name)


def _files_by_name(folder: Path) -> dict[str, Path]:
    """The label files in a folder by their names in lower case; none if it cannot be read."""
    names = {*COLOR_FILES, *ID_FILES, *NAME_FILES}
    try:
        return {path.name.lower(): path for path in folder.iterdir() if path.name.lower() in names and path.is_file()}
    except OSError:  # reported with the other folders that cannot be read
        return {}


def _folders(root: Path) -> list[Path]:
    try:
        return [root, *sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))]
    except OSError:
        return []
