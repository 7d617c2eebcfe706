"""YOLO segmentation: a text file per image with normalized polygons, and data.yaml with the names of the classes."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import yaml

from fastfcn.data.annotations.export import Entry, Export, Format, Shape
from fastfcn.data.annotations.folder import ExportFolder, path_parts
from fastfcn.data.annotations.node import Node
from fastfcn.data.annotations.shapes import polygon
from fastfcn.data.class_lists import NAME_FILES, read_class_list
from fastfcn.errors import DataError
from fastfcn.utils.sizes import Size
from fastfcn.utils.text import read_lines, read_text

SPLITS = ("train", "val", "valid", "test")
NAMES = (*NAME_FILES, "obj.names")
MAX_YAML = 2**20  # characters


def recognizes(folder: ExportFolder) -> bool:
    return any(_label_file(folder, image) for image in folder.images) and _names_file(folder) is not None


def read(folder: ExportFolder) -> Export:
    """Every image is an entry; one without a text file has no objects, as in training of YOLO."""
    export = Export()
    file = _names_file(folder)
    root = _read_yaml(folder.path(file)) if file and file.endswith((".yaml", ".yml")) else None
    names = _names(root) if root else _listed_names(folder, file)
    for name in names.values():
        export.add_class(name)
    splits = _Splits(folder, root)
    labeled = {str(PurePosixPath(image).parent) for image in folder.images if _label_file(folder, image)}
    without = 0
    for image in folder.images:
        labels = _label_file(folder, image)
        if labels is None and str(PurePosixPath(image).parent) not in labeled:
            continue
        without += labels is None
        path = folder.path(labels) if labels else None
        entry = Entry(folder.image_path(image), labels or image, splits.of(image), None, partial(_shapes, path, names))
        export.entries.append(entry)
    if without:
        export.notes.append(f"{without} images without a text file have no objects.")
    return export


def _label_file(folder: ExportFolder, image: str) -> str | None:
    """The text file of an image: in `labels` instead of the last `images`, next to it, or in `labels`."""
    path = PurePosixPath(image).with_suffix(".txt")
    places = [index for index, part in enumerate(path.parts[:-1]) if part.lower() == "images"]
    names = [PurePosixPath(*path.parts[:i], "labels", *path.parts[i + 1 :]) for i in places[-1:]]
    names += [path, PurePosixPath("labels", path)]
    return next((str(name) for name in names if folder.has(str(name))), None)


def _names_file(folder: ExportFolder) -> str | None:
    """The YAML file with `names`, else a list of names; the one nearest to the top."""
    files = [name for name in folder.with_suffix(".yaml", ".yml") if "names:" in folder.peek(name)]
    lists = [name for name in folder.files if PurePosixPath(name).name.lower() in NAMES]
    return next(iter(sorted(files, key=_depth) or sorted(lists, key=_depth)), None)


def _depth(name: str) -> tuple[int, str]:
    return name.count("/"), name


def _read_yaml(path: Path) -> Node:
    """A YAML file of plain values. Raises DataError, also for aliases, which make small files very large."""
    text = read_text(path)
    try:
        if len(text) > MAX_YAML:
            raise DataError(f"{path} is larger than {MAX_YAML // 2**20} MiB.")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise DataError(f"{path} has an alias (*name).", "Write its value instead.")
        return Node(yaml.safe_load(text))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        line = str(error).replace("\n", " ")
        raise DataError(f"{path} is not valid YAML: {line}.") from error


def _names(root: Node) -> dict[int, str]:
    """The names of the classes by number, from a list or a mapping."""
    names = root["names"]
    if isinstance(names.value, dict):
        entries = [(number, names.value[number]) for number in names.value]
        if not all(isinstance(number, int) and number >= 0 for number, _ in entries):
            raise names.error("numbers as keys")
    else:
        entries = [(node_index, node.value) for node_index, node in enumerate(names.elements())]
    return {number: Node(str(name), f"names[{number}]").name() for number, name in sorted(entries)}


def _listed_names(folder: ExportFolder, file: str | None) -> dict[int, str]:
    if file is None:
        raise DataError(f"{folder.root} has no names of classes.", "Add data.yaml with `names`, or classes.txt.")
    path = folder.path(file)
    if path.suffix == ".names":
        return dict(enumerate(read_lines(path)))
    return {index: entry.name for index, entry in enumerate(read_class_list(path).classes)}


class _Splits:
    """The split of an image by the paths in data.yaml: of folders, or of lists of images."""

    def __init__(self, folder: ExportFolder, root: Node | None):
        self.folders: list[tuple[str, list[str]]] = []
        self.listed: dict[str, str] = {}
        for split in SPLITS if root else ():
            value = root.get(split) if root else None
            values = [] if value is None else value.value if isinstance(value.value, list) else [value.value]
            for text in filter(lambda text: isinstance(text, str), values):
                parts = path_parts(text)
                if text.endswith(".txt"):
                    self._read_list(folder, "/".join(parts), split)
                elif parts:
                    self.folders.append((split, parts))

    def _read_list(self, folder: ExportFolder, name: str, split: str) -> None:
        file = next((file for file in folder.files if file == name or file.endswith(f"/{name}")), None)
        for line in read_lines(folder.path(file)) if file else ():
            self.listed[path_parts(line)[-1] if path_parts(line) else ""] = split

    def of(self, image: str) -> str:
        """Text that names the split of an image: the key in data.yaml, else the path itself."""
        path = PurePosixPath(image)
        if path.name in self.listed:
            return self.listed[path.name]
        fits = sorted(((_shared(parts, path.parent), split) for split, parts in self.folders), reverse=True)
        certain = bool(fits) and fits[0][0] > 0 and (len(fits) == 1 or fits[0][0] > fits[1][0])
        return fits[0][1] if certain else str(path.parent)


def _shared(parts: list[str], folder: PurePosixPath) -> int:
    """How many parts of the end of a path in data.yaml are in a row in the path of a folder."""
    text = f"/{folder}/"
    return next((len(parts) - start for start in range(len(parts)) if f"/{'/'.join(parts[start:])}/" in text), 0)


def _shapes(path: Path | None, names: dict[int, str], size: Size) -> Iterator[Shape]:
    for number, line in enumerate(read_text(path).split("\n") if path else (), start=1):
        if not line.strip():
            continue
        try:
            values = np.array([float(word) for word in line.split()])
        except ValueError:
            raise DataError(f"line {number}: expected numbers, not {line[:40]!r}") from None
        if values[0] not in names:
            raise DataError(f"line {number}: there is no class {line.split()[0]}")
        label, points = names[int(values[0])], values[1:]
        if len(points) == 4:
            yield Shape(label, None, "box without a polygon")
        elif len(points) % 2 or len(points) < 6:
            raise DataError(f"line {number}: {len(points)} coordinates are not a polygon")
        else:
            try:
                region = polygon(points.reshape(-1, 2) * (size[1], size[0]), size)
            except DataError as error:
                raise DataError(f"line {number}: {error.message}") from error
            yield Shape(label, region)


FORMAT = Format("yolo", "YOLO segmentation", recognizes, read)
