"""What a format makes of an export: its classes, and an entry per image with the shapes in it."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from fastfcn.data.annotations.folder import ExportFolder
from fastfcn.data.annotations.shapes import Region
from fastfcn.errors import DataError
from fastfcn.utils.sizes import Size

IGNORED = "__ignore__"  # label of shapes whose pixels are ignored, as in LabelMe

Color = tuple[int, int, int]


class Shape(NamedTuple):
    """An object of an image. `region` is None for one without an area, whose `kind` is then counted and left out.

    `layer`: shapes of higher layers are painted over those of lower ones. `crowd`: a region of several objects, which
    is painted below all others.
    """

    label: str
    region: Region | None
    kind: str = ""
    layer: int = 0
    crowd: bool = False


@dataclass(frozen=True)
class Entry:
    """The annotations of one image.

    `where` says in messages what is annotated and in which file; `split` is text that may name the split, such as a
    path; `size` is the size (height, width) that the coordinates are for, None if they are for any; `shapes` creates
    the shapes for an image of a size and raises DataError for broken ones; `embedded` reads the image if the export
    contains it, and `image` is then a name.
    """

    image: Path
    where: str
    split: str
    size: Size | None
    shapes: Callable[[Size], Iterable[Shape]]
    embedded: Callable[[], bytes] | None = None


class Problem(NamedTuple):
    """Something broken: in which file and entry, and what is wrong."""

    where: str
    message: str

    def __str__(self) -> str:
        return self.message if self.message.startswith(self.where) else f"{self.where}: {self.message}"


@dataclass
class Export:
    """Everything that a format reads before the shapes: `classes` with their colors, in order.

    `notes` are one line each, on what was not used. `objects` is False if the export has no single objects but masks.
    """

    classes: dict[str, Color | None] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    objects: bool = True

    def add_class(self, name: str, color: Color | None = None) -> None:
        """Add a class at the end, unless it exists; a color is kept."""
        self.classes[name] = self.classes.get(name) or color

    @contextmanager
    def noting(self, where: str) -> Iterator[None]:
        """Note a DataError as a problem of `where` and go on."""
        try:
            yield
        except DataError as error:
            self.problems.append(Problem(where, error.message.rstrip(".")))


def hex_color(text: str) -> Color | None:
    """The color in "#rrggbb", None for other text."""
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        return None
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


@dataclass(frozen=True)
class Format:
    """An annotation format.

    `recognizes` says from names and the first bytes of files whether a folder has this format; `read` reads it and
    raises DataError if nothing can be read.
    """

    name: str
    title: str
    recognizes: Callable[[ExportFolder], bool]
    read: Callable[[ExportFolder], Export]
