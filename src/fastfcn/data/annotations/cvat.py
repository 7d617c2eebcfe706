"""CVAT for images 1.1: one XML file per task or project. (Segmentation masks of CVAT: see voc.py.)"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from xml.parsers import expat

import numpy as np

from fastfcn.data.annotations.export import Color, Entry, Export, Format, Shape, hex_color
from fastfcn.data.annotations.folder import ExportFolder, path_parts
from fastfcn.data.annotations.shapes import Region, box, ellipse, inside, polygon, runs
from fastfcn.errors import DataError
from fastfcn.utils.sizes import Size

AREAS = ("polygon", "box", "mask", "ellipse")
WITHOUT_AREA = ("polyline", "points", "cuboid", "skeleton")
LABEL_PATHS = tuple(("annotations", "meta", owner, "labels", "label") for owner in ("task", "project", "job"))
CHUNK = 2**20  # bytes

Attributes = dict[str, str]


@dataclass
class _Image:
    attributes: Attributes
    shapes: list[tuple[str, Attributes]] = field(default_factory=list)


class _Reader:
    """Reads the classes and images of a file in one pass. Document types are refused, and so entities are, too."""

    def __init__(self) -> None:
        self.classes: dict[str, Color | None] = {}
        self.images: list[_Image] = []
        self.path: list[str] = []
        self.text = ""
        self.label: Attributes = {}

    def parse(self, path: Path) -> None:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        try:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    parser.Parse(chunk, False)
            parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise DataError(f"it is not valid XML: {error}") from error
        except OSError as error:
            raise DataError(f"it cannot be read: {(error.strerror or str(error)).lower()}") from error

    def _refuse(self, *_: object) -> None:
        raise DataError("it has a document type, which annotations of CVAT have not")

    def _start(self, name: str, attributes: Attributes) -> None:
        self.path.append(name)
        self.text = ""
        if name == "track":
            raise DataError("it is a video task; export it as 'CVAT for images'")
        if tuple(self.path) in LABEL_PATHS:
            self.label = {}
        elif name == "image" and len(self.path) == 2:
            self.images.append(_Image(attributes))
        elif len(self.path) == 3 and self.path[1] == "image" and name in AREAS + WITHOUT_AREA:
            self.images[-1].shapes.append((name, attributes))

    def _characters(self, text: str) -> None:
        if self.path[1:2] == ["meta"]:
            self.text += text

    def _end(self, name: str) -> None:
        if tuple(self.path[:-1]) in LABEL_PATHS:
            self.label[name] = self.text.strip()
        elif tuple(self.path) in LABEL_PATHS and self.label.get("name") and not self.label.get("parent"):
            # Labels with a parent are parts of skeletons.
            self.classes[self.label["name"]] = hex_color(self.label.get("color", ""))
        self.path.pop()


def recognizes(folder: ExportFolder) -> bool:
    return bool(_files(folder))


def read(folder: ExportFolder) -> Export:
    """All XML files of the folder together; the labels of the tasks are the classes."""
    export = Export()
    for file in _files(folder):
        with export.noting(file):
            reader = _Reader()
            reader.parse(folder.path(file))
            for name, color in reader.classes.items():
                export.add_class(name, color)
            for number, image in enumerate(reader.images):
                _add_entry(folder, file, number, image, export)
    return export


def _files(folder: ExportFolder) -> list[str]:
    return [name for name in folder.with_suffix(".xml") if "<annotations>" in folder.peek(name)]


def _add_entry(folder: ExportFolder, file: str, number: int, image: _Image, export: Export) -> None:
    name = image.attributes.get("name", "")
    where = f"{file}, image {image.attributes.get('id', number)} ({name})"
    with export.noting(where):
        size = _number(image.attributes, "height"), _number(image.attributes, "width")
        for _, attributes in image.shapes:
            export.add_class(_text(attributes, "label"))
        shapes = partial(_shapes, image.shapes)
        subset = image.attributes.get("subset", "")
        split = "/".join([file, *path_parts(name)[:-1], subset])
        path = folder.image(f"{subset}/{name}" if subset else name, near=file)
        export.entries.append(Entry(path, where, split, (int(size[0]), int(size[1])), shapes))


def _shapes(shapes: list[tuple[str, Attributes]], size: Size) -> Iterator[Shape]:
    for number, (kind, attributes) in enumerate(shapes):
        label = _text(attributes, "label")
        try:
            region = _region(kind, attributes, size) if kind in AREAS else None
            layer = int(_number(attributes, "z_order", 0))
        except DataError as error:
            raise DataError(f"{kind} {number} ({label}): {error.message}") from error
        yield Shape(label, region, kind if region is None else "", layer)


def _region(kind: str, attributes: Attributes, size: Size) -> Region | None:
    def number(key: str, default: float | None = None) -> float:
        return _number(attributes, key, default)

    match kind:
        case "polygon":
            points = _points(_text(attributes, "points"))
            return polygon(points, size) if len(points) >= 3 else None
        case "box":
            return polygon(box(number("xtl"), number("ytl"), number("xbr"), number("ybr"), number("rotation", 0)), size)
        case "ellipse":
            return ellipse((number("cx"), number("cy")), (number("rx"), number("ry")), size, number("rotation", 0))
        case _:
            height, width = int(number("height")), int(number("width"))
            if not (0 <= height <= size[0] and 0 <= width <= size[1]):
                raise DataError(f"a mask of {height} x {width} pixels (height x width) in an image of {size}")
            mask = runs(_counts(_text(attributes, "rle")), (height, width), columns_first=False).mask
            return inside(Region(int(number("top")), int(number("left")), mask), size)


def _points(text: str) -> np.ndarray:
    try:
        return np.array([[float(part) for part in point.split(",")] for point in text.split(";")]).reshape(-1, 2)
    except ValueError:
        raise DataError("points: expected x,y;x,y;...") from None


def _counts(text: str) -> np.ndarray:
    try:
        return np.array([int(part) for part in text.split(",")], np.int64)
    except (ValueError, OverflowError):
        raise DataError("rle: expected integers") from None


def _text(attributes: Attributes, key: str) -> str:
    if not (text := attributes.get(key, "").strip()):
        raise DataError(f"the attribute {key!r} is missing")
    return text


def _number(attributes: Attributes, key: str, default: float | None = None) -> float:
    if key not in attributes and default is not None:
        return default
    try:
        number = float(_text(attributes, key))
    except ValueError:
        number = np.inf
    if not abs(number) < 2**31:
        raise DataError(f"{key}: expected a number, not {attributes[key][:40]!r}")
    return number


FORMAT = Format("cvat", "CVAT for images 1.1 (XML)", recognizes, read)
