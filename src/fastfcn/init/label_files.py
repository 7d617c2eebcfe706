"""Names and colours of classes from the files that labelling tools leave beside their masks."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fastfcn.init.colors import Color

# CVAT and Datumaro; SegNet's CamVid; its copies; LabelMe and the like.
COLORED = ("labelmap.txt", "label_map.txt", "label_colors.txt", "class_dict.csv", "colors.txt")
PLAIN = ("classes.txt", "class_names.txt", "labels.txt", "names.txt", "label_names.txt")
NUMBERS = re.compile(r"(?<!\d)(\d{1,3})[,;\s]+(\d{1,3})[,;\s]+(\d{1,3})(?!\d)")


class Listed(NamedTuple):
    """A class as a file names it; `color` is None where it gives none."""

    name: str
    color: Color | None


def listed_classes(root: Path) -> tuple[list[Listed], Path | None]:
    """The classes that a file in the folder `root`, or in one directly below it, names, and that file.

    Files with colours come first, and of those with and those without the ones nearest to `root`.
    """
    for names in (COLORED, PLAIN):
        for folder in _folders(root):
            present = {each.name.lower(): each for each in folder.iterdir() if each.is_file()}
            for path in (present[name] for name in names if name in present):
                if found := list(read_label_file(path)):
                    return found, path
    return [], None


def read_label_file(path: Path) -> Iterator[Listed]:
    """Each class in the order of the file; lines that are comments or titles are left out."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        text = path.read_text(encoding="latin-1")
    for line in (each.strip() for each in text.splitlines()):
        if not line or line.startswith(("#", "//")) or re.match(r"(name|label|class)\w*\s*[,:;]\s*r", line, re.I):
            continue
        numbers = NUMBERS.search(line)
        color = tuple(map(int, numbers.groups())) if numbers else None
        if color and max(color) > 255:
            continue
        rest = line[: numbers.start()] + " " + line[numbers.end() :] if numbers else line
        name = _name(rest, path.name.lower() in COLORED)
        if name:
            yield Listed(name, color)  # type: ignore[arg-type] # three numbers


def _name(text: str, colored: bool) -> str:
    """What is left of a line without its colour: CVAT adds parts and actions behind colons."""
    text = text.strip(" ,;:\t\"'")
    parts = re.split(r"[:;,\t]", text) if colored else [text]
    name = next((each.strip(" \"'") for each in parts if each.strip(" \"'")), "")
    return re.sub(r"^\d+\s*[:.\s]\s*(?=\D)", "", name)  # "0: road"


def _folders(root: Path) -> list[Path]:
    try:
        return [root, *sorted(each for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))]
    except OSError:
        return []
